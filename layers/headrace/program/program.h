/* A compiled model: what program_twin.py says, laid out to be run. */
#ifndef HEADRACE_PROGRAM_H
#define HEADRACE_PROGRAM_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed arrays are little-endian: without this, Python's twin serves"
#endif

enum { MOST_COLUMNS = 65535, MOST_VALUES = 1 << 20 };
enum { TAKES_NAN = 1, TAKES_INFINITY = 2 };

/* As in program_twin.Operation. */
typedef enum {
    TAKE, ADD, SUBTRACT, MULTIPLY, DIVIDE, EQUAL, FILL, IS_NAN, SINGLE, NEGATE, RELU, EXP, SIGMOID,
    TANH, CLIP, DOT, LEAST, TREES
} Operation;

typedef struct {
    uint32_t operation, size, a, b, c, d;
} Step;

typedef struct {
    double split;         /* of a leaf: what it gives */
    uint32_t look, child; /* twice the column, and 1 where NaN goes left; 0 is no child */
} Node;

typedef struct {
    uint32_t end, target; /* the root is where the tree before it ends */
} Tree;

/* A packed array as a copy: aligned, and nobody's but ours. */
#define ARRAY(type) struct { type *at; size_t count; }

typedef struct {
    PyObject_HEAD
    ARRAY(uint8_t) takes;
    ARRAY(double) constants;
    ARRAY(uint32_t) indices;
    ARRAY(Node) nodes;
    ARRAY(Tree) trees;
    ARRAY(Step) steps;
    size_t width; /* numbers of a row: its inputs and the results of all steps */
} Program;

/* Refuse what could not run: sets ValueError and gives -1. Nothing is run before. */
int program_check(Program *self);

/* Run rows that lie one after another, `width` numbers each, inputs first. */
void program_run(const Program *self, double *rows, size_t count);

extern PyType_Spec program_spec;

#endif
