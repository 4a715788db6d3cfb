#include "statistics.h"

#include <math.h>

double divided(wide number, int64_t by)
{
    unsigned __int128 left = number < 0 ? -(unsigned __int128)number : (unsigned __int128)number;
    int shift = 0;
    if (left <= (1ULL << 53)) /* both are doubles exactly, and their quotient is rounded once */
        return (double)number / (double)by;
    while (left >> 120 == 0 && shift < 60) /* leave more than 54 bits, and one for the rest */
        left <<= 1, shift++;
    unsigned __int128 quotient = left / (uint64_t)by;
    quotient = quotient << 1 | (left % (uint64_t)by != 0);
    double found = ldexp((double)quotient, -shift - 1);
    return number < 0 ? -found : found;
}

/* Source: Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997. */
double exact_sum(const double *values, size_t n)
{
    double partials[1100]; /* that do not even touch: of two of 2098 bits at least, each */
    int used = 0;
    for (size_t i = 0; i < n; i++) {
        double x = values[i];
        int kept = 0;
        for (int j = 0; j < used; j++) {
            double y = partials[j];
            if (fabs(x) < fabs(y)) {
                double other = x;
                x = y, y = other;
            }
            double high = x + y, low = y - (high - x);
            if (low != 0)
                partials[kept++] = low;
            x = high;
        }
        used = kept;
        if (x != 0)
            partials[used++] = x;
    }
    double high = 0, low = 0;
    if (used)
        high = partials[--used];
    while (used) {
        double x = high, y = partials[--used];
        high = x + y;
        low = y - (high - x);
        if (low != 0)
            break;
    }
    /* Half-way cases go by what lies below the last bit. */
    if (used && ((low < 0 && partials[used - 1] < 0) || (low > 0 && partials[used - 1] > 0))) {
        double y = low * 2, x = high + y;
        if (y == x - high)
            high = x;
    }
    return high;
}

/* Present values as floats, of a column of floats. Returns how many, or -1 without memory. */
static int64_t present_floats(const Column *column, size_t start, size_t stop, double **values)
{
    int64_t n = 0;
    *values = malloc((stop - start + 1) * sizeof **values);
    if (!*values)
        return -1;
    for (size_t row = start; row < stop; row++) {
        double value;
        memcpy(&value, column->data.bytes + row * 8, 8);
        if (!isnan(value))
            (*values)[n++] = value;
    }
    return n;
}

#define SUM(TYPE, ACC, MARK)                                      \
    do {                                                          \
        TYPE value;                                               \
        ACC sum = 0;                                              \
        size_t n = 0;                                             \
        const uint8_t *at = column->data.bytes + start * sizeof value; \
        for (size_t row = start; row < stop; row++, at += sizeof value) { \
            memcpy(&value, at, sizeof value);                     \
            int there = value != (TYPE)(MARK);                    \
            sum += there ? (ACC)value : 0;                        \
            n += there;                                           \
        }                                                         \
        running->sum += sum;                                      \
        running->n += n;                                          \
    } while (0)

/* Add rows of a column of integers to a sum: at most 2**53 each, and less than 2**17 of them. */
static void add_integers(const Column *column, size_t start, size_t stop, Running *running)
{
    switch (column->code) {
    case 'B': SUM(uint8_t, uint64_t, UINT8_MAX); break;
    case 'H': SUM(uint16_t, uint64_t, UINT16_MAX); break;
    case 'I': SUM(uint32_t, uint64_t, UINT32_MAX); break;
    case 'Q': SUM(uint64_t, wide, UINT64_MAX); break;
    case 'b': SUM(int8_t, int64_t, INT8_MIN); break;
    case 'h': SUM(int16_t, int64_t, INT16_MIN); break;
    case 'i': SUM(int32_t, int64_t, INT32_MIN); break;
    case 'q': SUM(int64_t, wide, INT64_MIN); break;
    }
}

int64_t total_of(const Column *column, size_t start, size_t stop, Running *running, double *sum)
{
    if (column->code == 'd') {
        double *values;
        int64_t n = present_floats(column, start, stop, &values);
        if (n > 0)
            *sum = exact_sum(values, (size_t)n);
        free(values);
        return n;
    }
    if (running->stop != stop || running->start < start) /* no shorter window of the same end */
        *running = (Running){stop, stop, 0, 0};
    add_integers(column, start, running->start, running);
    running->start = start;
    if (running->n)
        *sum = divided(running->sum, column->scale);
    return (int64_t)running->n;
}

static int64_t deviations_of_floats(const Column *column, size_t start, size_t stop, double *found)
{
    double *values;
    int64_t n = present_floats(column, start, stop, &values);
    if (n > 0) {
        double mean = exact_sum(values, (size_t)n) / (double)n;
        for (int64_t i = 0; i < n; i++)
            values[i] = (values[i] - mean) * (values[i] - mean);
        *found = exact_sum(values, (size_t)n);
    }
    free(values);
    return n;
}

int64_t deviations_of(const Column *column, size_t start, size_t stop, double *found)
{
    if (column->code == 'd')
        return deviations_of_floats(column, start, stop, found);
    wide sum = 0, squares = 0;
    int64_t n = 0;
    for (size_t row = start; row < stop; row++) {
        if (column->absent && isnan(column_value(column, row)))
            continue;
        int64_t value = column_integer(column, row);
        sum += value;
        squares += (wide)value * value;
        n++;
    }
    if (n)
        *found = divided(n * squares - sum * sum, n) / (double)(column->scale * column->scale);
    return n;
}

int64_t extreme_of(const Column *column, size_t start, size_t stop, int largest, double *found)
{
    int64_t n = 0;
    for (size_t row = start; row < stop; row++) {
        double value = column_value(column, row);
        if (isnan(value))
            continue;
        if (!n++ || (largest ? value > *found : value < *found))
            *found = value;
    }
    return n;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int64_t different_of(const Column *column, size_t start, size_t stop)
{
    size_t n = stop - start;
    int64_t found = 0;
    uint64_t *hashes = malloc((n + 1) * sizeof *hashes);
    if (!hashes)
        return -1;
    if (n)
        memcpy(hashes, column->data.bytes + start * 8, n * 8);
    qsort(hashes, n, sizeof *hashes, by_size);
    for (size_t i = 0; i < n; i++)
        found += hashes[i] != UINT64_MAX && (i == 0 || hashes[i] != hashes[i - 1]);
    free(hashes);
    return found;
}

/* Whether one end comes before another: by time, then by value. */
static int comes_before(End a, End b, int newest)
{
    if (a.time != b.time)
        return newest ? a.time > b.time : a.time < b.time;
    return newest ? a.value > b.value : a.value < b.value;
}

int64_t ends_of(const Rows *rows, int column, size_t start, size_t stop, int newest, int n,
                double *found)
{
    int64_t used = 0;
    End *ends = malloc((size_t)(n + 1) * sizeof *ends);
    if (!ends)
        return -1;
    for (size_t i = 0; i < stop - start; i++) {
        size_t row = newest ? stop - 1 - i : start + i;
        End end = {rows_time(rows, row), column_value(&rows->column[column], row)};
        if (isnan(end.value))
            continue;
        if (used == n && end.time != ends[n - 1].time)
            break; /* all that are left lie further inside */
        int64_t at = used < n ? used++ : n;
        for (; at > 0 && comes_before(end, ends[at - 1], newest); at--)
            ends[at] = ends[at - 1];
        ends[at] = end; /* beyond n: the one that has no place */
    }
    for (int64_t i = 0; i < used; i++)
        found[i] = ends[i].value;
    free(ends);
    return used;
}
