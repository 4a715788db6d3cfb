/* Compact rows, as rows.py keeps them: sorted by (event time, id digest), little-endian. */
#ifndef HEADRACE_ROWS_H
#define HEADRACE_ROWS_H

#include "buffer.h"

enum { DIGEST_BYTES = 6, HASHES = 0 };
#define EXACT 9007199254740992.0 /* 2**53 */
#define MANY_ROWS 512            /* above which nothing is packed anew here */
#define WILD 1e150               /* above which sums of squares might overflow on their way */
#define MOST_SQUARES 1024        /* integers of up to 2**53 whose squares 127 bits hold, times their number */

/* Values of one field. Integers are the value times ``scale``; absent ones are the type's mark. */
typedef struct {
    char code; /* of Python's array */
    int width;
    int64_t scale; /* HASHES for hashes, 1 for floats */
    size_t absent;
    Buffer data;
} Column;

typedef struct {
    int64_t unit, base; /* ticks are (time - base) / unit, in microseconds */
    int time_width;     /* 4: unsigned; 8: signed */
    Buffer times, digests;
    int columns;
    Column *column;
} Rows;

/* A value on its way into a column. */
typedef struct {
    double number; /* NaN: absent */
    uint64_t hash;
} Value;

int code_width(char code); /* 0 where rows.py knows no such code */
void column_empty(Column *column, int hashed);
int column_read(Column *column, const uint8_t *bytes, size_t size); /* -1: not a column's bytes */
int column_fits(const Column *column, Value value);
int column_insert(Column *column, size_t rows, size_t at, Value value); /* -1: no memory */
void column_drop(Column *column, size_t rows);
double column_value(const Column *column, size_t row); /* NaN: absent; not of hashes */
int64_t column_integer(const Column *column, size_t row); /* as packed; not of floats */
int column_is_wild(const Column *column);

size_t rows_count(const Rows *rows);
size_t rows_row_bytes(const Rows *rows);
int64_t rows_time(const Rows *rows, size_t row); /* microseconds UTC */
int64_t rows_tick(const Rows *rows, int64_t time);
size_t rows_upto(const Rows *rows, int64_t time, size_t stop); /* how many of the first ``stop`` */
int rows_has(const Buffer *digests, const uint8_t *digest);
int rows_time_fits(const Rows *rows, int64_t time);
int rows_insert(Rows *rows, int64_t time, const uint8_t *digest, const Value *values);
void rows_drop(Rows *rows, size_t stop);
void rows_free(Rows *rows);

#endif
