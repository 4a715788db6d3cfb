/* One view of one entity: unpacked, read, changed and packed again, as ViewFold does it. */
#ifndef HEADRACE_VIEW_H
#define HEADRACE_VIEW_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "msgpack.h"
#include "rows.h"

#define NEVER INT64_MIN

typedef enum { ROW_COUNT, NEWEST, TOTAL, DEVIATIONS, SMALLEST, LARGEST, OLDEST_ENDS, NEWEST_ENDS,
               DIFFERENT } Kind; /* of statistics; compiled_fold.py numbers them alike */

typedef enum { READ_COUNT, READ_SINCE, READ_SUM, READ_MEAN, READ_STD, READ_VALUE, READ_LAST_N } Reading;

/* One aggregate: a statistic over a column, and how its values are read. */
typedef struct {
    Kind kind;
    Reading reading;
    int column; /* -1: of no field */
    int n;      /* values */
} Aggregate;

typedef struct {
    PyObject *name;
    PyObject *hash; /* a function; NULL for numbers */
} Field;

/* A view of the definition, made ready. */
typedef struct {
    PyObject *name;
    const char *text; /* the name */
    size_t text_size;
    uint8_t layout[4];
    int source;
    PyObject *where; /* a function; NULL takes every event */
    int64_t delay, retention, longest;
    int counts_current;
    double most_row_bytes;
    int fields, windows, aggregates, width; /* width: values of one window */
    Field *field;
    int64_t *window;
    Aggregate *aggregate;
} ViewPlan;

/* What one entity has in it. */
typedef struct {
    const ViewPlan *plan;
    Rows rows;
    int64_t horizon;
    Slice stored; /* as packed; NULL for a view that the stored state does not have */
    int changed;
    int wild; /* values so large that sums are left to Python */
} View;

/* An event on its way into the views of an entity. */
typedef struct {
    int64_t time, arrival;
    const uint8_t *digest;
    PyObject *fields;
} Arriving;

/* What views say as of an event. */
typedef struct {
    PyObject *features; /* a list */
    PyObject *cut;      /* a frozen set of places in it; NULL for none */
    int seen;
    int has_newest;
    int64_t newest;
} Said;

typedef enum { FAILED = -1, TAKES, PASSES, OF_ANOTHER, LEFT_TO_PYTHON } Verdict;

enum { MOST_VIEWS = 32, MOST_FIELDS = 32 };

void view_open_empty(View *view, const ViewPlan *plan);
int view_read(View *view, Slice stored); /* -1: not rows alone, of this layout */
size_t view_packed_size(const View *view);
void view_write(const View *view, Buffer *out);
void view_free(View *view);

Verdict view_judge(const View *view, const Arriving *event, Value *values);
int view_take(View *view, const Arriving *event, const Value *values);
int view_say(const View *view, int64_t as_of, Said *said);
void view_note_before(const View *view, int64_t as_of, Said *said);
int view_add_features(const View *view, int64_t as_of, Said *said);

#endif
