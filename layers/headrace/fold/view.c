#include "view.h"

#include <math.h>

#define DELIVERED_AGAIN_US 3600000000LL /* as windows.py has it, with what follows */
#define MINUTE_US 60000000LL
enum { FEW = 1000 };

static const int64_t SECOND_US = 1000000;

void view_open_empty(View *view, const ViewPlan *plan)
{
    view->plan = plan;
    view->horizon = NEVER;
    view->rows.unit = SECOND_US;
    view->rows.time_width = 4;
    view->rows.columns = plan->fields;
    for (int i = 0; i < plan->fields; i++)
        column_empty(&view->rows.column[i], plan->field[i].hash != NULL);
}

static int is_scale(int64_t scale)
{
    return scale == 1 || scale == 10 || scale == 100 || scale == 1000 || scale == 10000;
}

static int read_column(Reader *reader, Column *column, int hashed)
{
    if (read_array(reader) != 3)
        return -1;
    Slice code = read_text(reader);
    column->scale = read_int(reader);
    Slice data = read_bytes(reader);
    if (reader->failed || code.size != 1)
        return -1;
    column->code = (char)*code.bytes;
    if (hashed ? column->code != 'Q' || column->scale != HASHES : !is_scale(column->scale))
        return -1;
    return column_read(column, data.bytes, data.size);
}

static int read_ticks(Reader *reader, Rows *rows)
{
    rows->unit = read_int(reader);
    rows->base = read_int(reader);
    rows->time_width = rows->unit == 1 ? 8 : 4;
    if (rows->unit == SECOND_US || rows->unit == 1)
        rows->base = 0;
    int is_unit = rows->unit == SECOND_US || rows->unit == 1000 || rows->unit == 1;
    int is_near = rows->base > INT64_MIN / 2 && rows->base < INT64_MAX / 2; /* differences fit */
    return is_unit && is_near ? 0 : -1;
}

/* Whether squares of so many rows might overflow: those of narrower integers never do. */
static int has_wild_squares(const View *view, size_t rows)
{
    for (int i = 0; i < view->plan->aggregates && rows > MOST_SQUARES; i++) {
        const Aggregate *each = &view->plan->aggregate[i];
        if (each->kind != DEVIATIONS)
            continue;
        const Column *column = &view->rows.column[each->column];
        if (column->code != 'd' && column->width == 8)
            return 1;
    }
    return 0;
}

int view_read(View *view, Slice stored)
{
    Reader reader = {stored.bytes, stored.bytes + stored.size, 0};
    Rows *rows = &view->rows;
    view->stored = stored;
    if (read_array(&reader) != 10)
        return -1;
    Slice layout = read_bytes(&reader);
    if (layout.size != 4 || memcmp(layout.bytes, view->plan->layout, 4))
        return -1;
    view->horizon = read_int(&reader);
    if (read_int(&reader) != 0 || read_ticks(&reader, rows)) /* hop */
        return -1;
    Slice times = read_bytes(&reader), digests = read_bytes(&reader);
    rows->times = buffer_borrowed(times.bytes, times.size);
    rows->digests = buffer_borrowed(digests.bytes, digests.size);
    if (read_array(&reader) != (size_t)rows->columns)
        return -1;
    for (int i = 0; i < rows->columns; i++)
        if (read_column(&reader, &rows->column[i], view->plan->field[i].hash != NULL))
            return -1;
    if (read_array(&reader) != 0 || read_big(&reader, 1) != 0xc0) /* tiles; nil for a base */
        return -1;
    size_t n = rows_count(rows);
    if (reader.failed || reader.at != reader.end || times.size != n * rows->time_width)
        return -1;
    if (digests.size != n * DIGEST_BYTES)
        return -1;
    for (int i = 0; i < rows->columns; i++) {
        if (rows->column[i].data.size != n * rows->column[i].width)
            return -1;
        view->wild |= column_is_wild(&rows->column[i]);
    }
    view->wild |= has_wild_squares(view, n);
    return 0;
}

size_t view_packed_size(const View *view)
{
    size_t size = 64 + view->rows.times.size + view->rows.digests.size;
    for (int i = 0; i < view->rows.columns; i++)
        size += 24 + view->rows.column[i].data.size;
    return view->changed ? size : view->stored.size;
}

void view_write(const View *view, Buffer *out)
{
    const Rows *rows = &view->rows;
    write_count(out, 0x90, 0xdc, 10);
    write_bytes(out, view->plan->layout, 4);
    write_int(out, view->horizon);
    write_int(out, 0);
    write_int(out, rows->unit);
    write_int(out, rows->base);
    write_bytes(out, rows->times.bytes, rows->times.size);
    write_bytes(out, rows->digests.bytes, rows->digests.size);
    write_count(out, 0x90, 0xdc, (size_t)rows->columns);
    for (int i = 0; i < rows->columns; i++) {
        const Column *column = &rows->column[i];
        write_count(out, 0x90, 0xdc, 3);
        write_text(out, &column->code, 1);
        write_int(out, column->scale);
        write_bytes(out, column->data.bytes, column->data.size);
    }
    write_count(out, 0x90, 0xdc, 0);
    out->bytes[out->size++] = 0xc0;
}

void view_free(View *view) { rows_free(&view->rows); }

/* Whether the view's filter wants the event: what raises does not. */
static Verdict wants(const ViewPlan *plan, PyObject *fields)
{
    if (!plan->where)
        return TAKES;
    PyObject *found = PyObject_CallFunctionObjArgs(plan->where, fields, NULL);
    int yes = found ? PyObject_IsTrue(found) : -1;
    Py_XDECREF(found);
    if (yes < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return FAILED;
        PyErr_Clear();
    }
    return yes > 0 ? TAKES : PASSES;
}

static Verdict hash_of(const Field *field, PyObject *found, Value *value)
{
    PyObject *hash = PyObject_CallFunctionObjArgs(field->hash, found, NULL);
    if (!hash)
        return FAILED;
    value->hash = PyLong_AsUnsignedLongLong(hash);
    Py_DECREF(hash);
    return PyErr_Occurred() ? FAILED : TAKES;
}

static Verdict number_of(PyObject *found, Value *value)
{
    if (found == Py_None) {
        value->number = NAN;
        return TAKES;
    }
    value->number = PyFloat_AsDouble(found);
    if (value->number == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return LEFT_TO_PYTHON;
    }
    return fabs(value->number) <= WILD ? TAKES : LEFT_TO_PYTHON; /* NaN as well */
}

static Verdict values_of(const ViewPlan *plan, PyObject *fields, Value *values)
{
    for (int i = 0; i < plan->fields; i++) {
        PyObject *found = PyObject_GetAttr(fields, plan->field[i].name);
        if (!found)
            return FAILED;
        Verdict verdict = plan->field[i].hash ? hash_of(&plan->field[i], found, &values[i])
                                              : number_of(found, &values[i]);
        Py_DECREF(found);
        if (verdict != TAKES)
            return verdict;
    }
    return TAKES;
}

/* What is to be done with an event, found without changing anything. */
Verdict view_judge(const View *view, const Arriving *event, Value *values)
{
    const Rows *rows = &view->rows;
    Verdict verdict = wants(view->plan, event->fields);
    if (verdict != TAKES)
        return verdict;
    if (event->time <= view->horizon || event->time < 0 || rows_has(&rows->digests, event->digest))
        return LEFT_TO_PYTHON;
    verdict = values_of(view->plan, event->fields, values);
    size_t n = rows_count(rows);
    if (verdict != TAKES || n < MANY_ROWS)
        return verdict;
    if (!rows_time_fits(rows, event->time))
        return LEFT_TO_PYTHON;
    for (int i = 0; i < rows->columns; i++)
        if (!column_fits(&rows->column[i], values[i]))
            return LEFT_TO_PYTHON;
    if (has_wild_squares(view, n + 1))
        return LEFT_TO_PYTHON;
    double bytes = (double)(n + 1) * (double)rows_row_bytes(rows);
    return n + 1 > FEW && bytes > view->plan->most_row_bytes ? LEFT_TO_PYTHON : TAKES;
}

static int64_t down_to(int64_t time, int64_t grain)
{
    int64_t apart = time % grain;
    return time - (apart < 0 ? apart + grain : apart);
}

/* Forget what no later event can need. */
static void evict(View *view, int64_t arrival)
{
    Rows *rows = &view->rows;
    int64_t oldest = arrival - DELIVERED_AGAIN_US - view->plan->retention - 1;
    int64_t cutoff = down_to(oldest, MINUTE_US);
    if (rows_time(rows, 0) > cutoff)
        return;
    size_t stop = rows_upto(rows, cutoff, rows_count(rows));
    int64_t last = rows_time(rows, stop - 1);
    view->horizon = last > view->horizon ? last : view->horizon;
    rows_drop(rows, rows_upto(rows, view->horizon, rows_count(rows)));
}

int view_take(View *view, const Arriving *event, const Value *values)
{
    if (rows_insert(&view->rows, event->time, event->digest, values)) {
        PyErr_NoMemory();
        return -1;
    }
    view->changed = 1;
    evict(view, event->arrival);
    return 0;
}

/* Whether the view had any event, and the newest one that features use. */
void view_note_before(const View *view, int64_t as_of, Said *said)
{
    const Rows *rows = &view->rows;
    int64_t right = as_of - view->plan->delay;
    size_t n = rows_count(rows), used = rows_upto(rows, right, n);
    said->seen |= view->horizon != NEVER || (n && rows_time(rows, 0) <= as_of);
    int64_t newest = used ? rows_time(rows, used - 1) : view->horizon <= right ? view->horizon : NEVER;
    if (newest != NEVER && (!said->has_newest || newest > said->newest))
        said->newest = newest, said->has_newest = 1;
}

static int note_cut(const View *view, int64_t as_of, Said *said, Py_ssize_t first)
{
    const ViewPlan *plan = view->plan;
    if (view->horizon == NEVER || !plan->longest)
        return 0;
    if (as_of - plan->delay - plan->longest >= view->horizon)
        return 0;
    if (!said->cut && !(said->cut = PyFrozenSet_New(NULL)))
        return -1;
    for (Py_ssize_t place = first; place < PyList_Size(said->features); place++) {
        PyObject *number = PyLong_FromSsize_t(place);
        if (!number || PySet_Add(said->cut, number)) {
            Py_XDECREF(number);
            return -1;
        }
        Py_DECREF(number);
    }
    return 0;
}

/* Features as of an instant, and whether a window reaches back too far. */
int view_say(const View *view, int64_t as_of, Said *said)
{
    Py_ssize_t first = PyList_Size(said->features);
    if (view_add_features(view, as_of, said))
        return -1;
    return note_cut(view, as_of, said, first);
}
