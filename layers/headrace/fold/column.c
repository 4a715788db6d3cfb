/* Values of one field, as narrow as they can be held exactly: Column of rows.py. */
#include "rows.h"

#include <math.h>

static const int64_t SCALES[] = {1, 10, 100, 1000, 10000};
static const char UNSIGNED[] = "BHIQ", SIGNED[] = "bhiq";

int code_width(char code)
{
    switch (code) {
    case 'B': case 'b': return 1;
    case 'H': case 'h': return 2;
    case 'I': case 'i': return 4;
    case 'Q': case 'q': case 'd': return 8;
    }
    return 0;
}

static int is_signed(char code) { return code >= 'a'; }

/* The bits that stand for an absent value: the largest unsigned one, the smallest signed one. */
static uint64_t mark_of(char code)
{
    int bits = 8 * code_width(code);
    return is_signed(code) ? 1ULL << (bits - 1) : UINT64_MAX >> (64 - bits);
}

static uint64_t bits_at(const Column *column, size_t row)
{
    const uint8_t *at = column->data.bytes + row * column->width;
    switch (column->width) { /* copies of a known size are single instructions */
    case 1: return *at;
    case 2: { uint16_t bits; memcpy(&bits, at, 2); return bits; }
    case 4: { uint32_t bits; memcpy(&bits, at, 4); return bits; }
    }
    uint64_t bits;
    memcpy(&bits, at, 8);
    return bits;
}

static double float_at(const Column *column, size_t row)
{
    double value;
    memcpy(&value, column->data.bytes + row * 8, 8);
    return value;
}

int64_t column_integer(const Column *column, size_t row)
{
    uint64_t bits = bits_at(column, row);
    switch (column->code) {
    case 'b': return (int8_t)bits;
    case 'h': return (int16_t)bits;
    case 'i': return (int32_t)bits;
    }
    return (int64_t)bits;
}

static int is_absent(const Column *column, size_t row)
{
    if (column->code == 'd')
        return isnan(float_at(column, row));
    return bits_at(column, row) == mark_of(column->code);
}

double column_value(const Column *column, size_t row)
{
    if (column->code == 'd')
        return float_at(column, row);
    if (is_absent(column, row))
        return NAN;
    return (double)column_integer(column, row) / (double)column->scale;
}

#define COUNT_MARKS(TYPE)                                        \
    do {                                                         \
        TYPE mark = (TYPE)mark_of(column->code), value;          \
        for (size_t row = 0; row < rows; row++) {                \
            memcpy(&value, bytes + row * sizeof value, sizeof value); \
            found += value == mark;                              \
        }                                                        \
    } while (0)

/* How many of the first rows are absent. */
static size_t count_absent(const Column *column, size_t rows)
{
    const uint8_t *bytes = column->data.bytes;
    size_t found = 0;
    if (column->code == 'd')
        for (size_t row = 0; row < rows; row++)
            found += isnan(float_at(column, row)) != 0;
    else if (column->width == 1) COUNT_MARKS(uint8_t);
    else if (column->width == 2) COUNT_MARKS(uint16_t);
    else if (column->width == 4) COUNT_MARKS(uint32_t);
    else COUNT_MARKS(uint64_t);
    return found;
}

void column_empty(Column *column, int hashed)
{
    *column = (Column){hashed ? 'Q' : 'B', hashed ? 8 : 1, hashed ? HASHES : 1, 0, {0}};
}

int column_read(Column *column, const uint8_t *bytes, size_t size)
{
    column->width = code_width(column->code);
    if (!column->width || size % column->width)
        return -1;
    column->data = buffer_borrowed(bytes, size);
    column->absent = count_absent(column, size / column->width);
    return 0;
}

int column_is_wild(const Column *column)
{
    size_t rows = column->data.size / 8;
    if (column->code != 'd')
        return 0;
    for (size_t row = 0; row < rows; row++)
        if (fabs(float_at(column, row)) > WILD)
            return 1;
    return 0;
}

/* Whether a code holds an integer that is not its mark. */
static int holds(char code, double packed)
{
    double top = ldexp(1.0, 8 * code_width(code) - (is_signed(code) ? 1 : 0));
    if (top > EXACT)
        top = EXACT;
    else if (!is_signed(code))
        top -= 1;
    return packed > (is_signed(code) ? -top : -1) && packed < top;
}

int column_fits(const Column *column, Value value)
{
    if (column->code == 'd' || column->scale == HASHES || isnan(value.number))
        return 1;
    double scaled = value.number * (double)column->scale;
    if (!(fabs(scaled) < EXACT))
        return 0;
    double packed = nearbyint(scaled);
    return packed / (double)column->scale == value.number && holds(column->code, packed);
}

static uint64_t packed_bits(const Column *column, Value value)
{
    uint64_t bits;
    if (column->scale == HASHES)
        return value.hash;
    if (column->code == 'd') {
        memcpy(&bits, &value.number, 8);
        return bits;
    }
    if (isnan(value.number))
        return mark_of(column->code);
    return (uint64_t)(int64_t)nearbyint(value.number * (double)column->scale);
}

static double largest_of(const double *values, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        if (fabs(values[i]) > largest)
            largest = fabs(values[i]);
    return largest;
}

/* The narrowest code that holds all values times the scale exactly; 0 where they are not whole. */
static char code_for(const double *values, size_t n, int64_t scale)
{
    double low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(values[i]))
            continue;
        double scaled = nearbyint(values[i] * (double)scale);
        if (scaled / (double)scale != values[i])
            return 0;
        low = fmin(low, scaled);
        high = fmax(high, scaled);
    }
    const char *codes = low < 0 ? SIGNED : UNSIGNED;
    while (!(holds(*codes, low) && holds(*codes, high)))
        codes++;
    return *codes;
}

/* Choose code and scale for these values. */
static void column_choose(Column *column, const double *values, size_t n)
{
    double largest = largest_of(values, n);
    *column = (Column){'d', 8, 1, 0, {0}};
    for (size_t i = 0; i < sizeof SCALES / sizeof *SCALES; i++) {
        if (largest * (double)SCALES[i] >= EXACT)
            break;
        char code = code_for(values, n, SCALES[i]);
        if (code) {
            *column = (Column){code, code_width(code), SCALES[i], 0, {0}};
            break;
        }
    }
}

/* Another column with one value more, which did not fit. */
static int column_repack(Column *column, size_t rows, size_t at, Value value)
{
    Column found;
    double *values = malloc((rows + 1) * sizeof *values);
    if (!values)
        return -1;
    for (size_t row = 0; row < rows; row++)
        values[row + (row >= at)] = column_value(column, row);
    values[at] = value.number;
    column_choose(&found, values, rows + 1);
    if (buffer_reserve(&found.data, (rows + 1) * found.width)) {
        free(values);
        return -1;
    }
    for (size_t row = 0; row <= rows; row++) {
        uint64_t bits = packed_bits(&found, (Value){values[row], 0});
        buffer_insert(&found.data, row * found.width, &bits, found.width);
        found.absent += isnan(values[row]);
    }
    free(values);
    buffer_free(&column->data);
    *column = found;
    return 0;
}

int column_insert(Column *column, size_t rows, size_t at, Value value)
{
    if (!column_fits(column, value))
        return column_repack(column, rows, at, value);
    if (buffer_reserve(&column->data, column->width))
        return -1;
    uint64_t bits = packed_bits(column, value);
    buffer_insert(&column->data, at * column->width, &bits, column->width);
    column->absent += column->scale != HASHES && isnan(value.number);
    return 0;
}

void column_drop(Column *column, size_t rows)
{
    if (column->absent)
        column->absent -= count_absent(column, rows);
    buffer_drop(&column->data, rows * column->width);
}
