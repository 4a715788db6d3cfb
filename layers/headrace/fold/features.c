/* Features out of rows: what ViewReader.features_as_of gives of a view that has rows alone. */
#include "statistics.h"
#include "view.h"

#include <math.h>

static int add_float(PyObject *features, double value)
{
    PyObject *number = PyFloat_FromDouble(value);
    if (!number)
        return -1;
    int failed = PyList_Append(features, number);
    Py_DECREF(number);
    return failed;
}

static int add_nothing(PyObject *features, int times)
{
    while (times-- > 0)
        if (PyList_Append(features, Py_None))
            return -1;
    return 0;
}

/* The newest values, and nothing in the places of those that there are not. */
static int add_ends(const Rows *rows, const Aggregate *each, size_t start, size_t stop,
                    PyObject *features)
{
    int failed = 0;
    double *found = malloc((size_t)each->n * sizeof *found);
    int64_t n = found ? ends_of(rows, each->column, start, stop, each->kind == NEWEST_ENDS, each->n,
                                found) : -1;
    for (int64_t i = 0; i < n && !failed; i++)
        failed = add_float(features, found[i]);
    free(found);
    if (n < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return failed ? -1 : add_nothing(features, each->n - (int)n);
}

/* The statistic of a column between two rows; how many values there are. */
static int64_t statistic_of(const Rows *rows, const Aggregate *each, size_t start, size_t stop,
                            Running *running, double *found)
{
    const Column *column = &rows->column[each->column];
    switch (each->kind) {
    case TOTAL: return total_of(column, start, stop, running, found);
    case DEVIATIONS: return deviations_of(column, start, stop, found);
    case SMALLEST: return extreme_of(column, start, stop, 0, found);
    case LARGEST: return extreme_of(column, start, stop, 1, found);
    default: break;
    }
    int64_t n = different_of(column, start, stop);
    *found = (double)n;
    return n;
}

static double reading_of(Reading reading, double found, int64_t n)
{
    switch (reading) {
    case READ_SUM: return found + 0.0; /* as the compensation of a sum of rows is added */
    case READ_MEAN: return (found + 0.0) / (double)n;
    case READ_STD: return sqrt((found < 0 ? 0.0 : found) / (double)n);
    default: return found;
    }
}

static int add_aggregate(const Rows *rows, const Aggregate *each, size_t start, size_t stop,
                         int64_t as_of, Running *running, PyObject *features)
{
    double found = 0;
    if (each->kind == ROW_COUNT)
        return add_float(features, (double)(stop - start));
    if (each->kind == NEWEST) {
        if (start >= stop)
            return add_nothing(features, 1);
        return add_float(features, divided((wide)as_of - rows_time(rows, stop - 1), 1000000));
    }
    if (each->kind == OLDEST_ENDS || each->kind == NEWEST_ENDS)
        return add_ends(rows, each, start, stop, features);
    int64_t n = statistic_of(rows, each, start, stop, running, &found);
    if (n < 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (!n && each->reading != READ_COUNT)
        return add_nothing(features, 1);
    return add_float(features, reading_of(each->reading, found, n));
}

int view_add_features(const View *view, int64_t as_of, Said *said)
{
    const ViewPlan *plan = view->plan;
    const Rows *rows = &view->rows;
    int64_t right = as_of - plan->delay;
    size_t stop = rows_upto(rows, right, rows_count(rows));
    Running running[MOST_FIELDS] = {0}; /* the sum of each column's shorter window */
    for (int w = 0; w < plan->windows; w++) {
        int64_t left = right - plan->window[w];
        if (left < view->horizon) {
            if (add_nothing(said->features, plan->width))
                return -1;
            continue;
        }
        size_t start = rows_upto(rows, left, stop);
        for (int i = 0; i < plan->aggregates; i++) {
            const Aggregate *each = &plan->aggregate[i];
            Running *own = each->column >= 0 ? &running[each->column] : NULL;
            if (add_aggregate(rows, each, start, stop, as_of, own, said->features))
                return -1;
        }
    }
    return 0;
}
