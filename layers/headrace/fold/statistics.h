/* What a window's rows add up to: the statistics of aggregates.py, bit for bit. */
#ifndef HEADRACE_STATISTICS_H
#define HEADRACE_STATISTICS_H

#include "rows.h"

typedef __int128 wide; /* sums of integers, which are exact */

typedef struct {
    int64_t time;
    double value;
} End;

/* A sum over rows, kept to find the next window's from. */
typedef struct {
    size_t start, stop, n;
    wide sum;
} Running;

double divided(wide number, int64_t by); /* rounded once, as Python divides integers */
double exact_sum(const double *values, size_t n); /* as math.fsum, of what is not WILD */

/* Each gives the number of present values between two rows; without any, the result is not set.
 * -1 means no memory. */
int64_t total_of(const Column *column, size_t start, size_t stop, Running *running, double *sum);
int64_t deviations_of(const Column *column, size_t start, size_t stop, double *squares);
int64_t extreme_of(const Column *column, size_t start, size_t stop, int largest, double *found);
int64_t different_of(const Column *column, size_t start, size_t stop); /* how many hashes */

/* The n oldest or newest present values, outermost first; how many there are. */
int64_t ends_of(const Rows *rows, int column, size_t start, size_t stop, int newest, int n,
                double *found);

#endif
