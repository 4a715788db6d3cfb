/* headrace._program: runs compiled models, row by row, without numpy.
 *
 * program_twin.py says what is meant; this gives the same bits and the same errors. A program is
 * checked as a whole before it runs, owns its arrays, and is not written to afterwards: a call has
 * its rows for itself, whatever else calls meanwhile. */
#include "program.h"

#include <math.h>
#include <string.h>

enum { ON_STACK = 512, IN_CACHE = 1 << 14, MOST_ROWS = 512 }; /* doubles, doubles, rows */

/* A copy of a packed array; 0, or -1 with an error. */
static int copied(const char *name, PyObject *bytes, size_t size, void *array)
{
    ARRAY(void) found;
    char *data;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(bytes, &data, &length))
        return -1;
    if ((size_t)length % size) {
        PyErr_Format(PyExc_ValueError, "%s: %zd bytes; expected a multiple of %zu", name, length,
                     size);
        return -1;
    }
    found.at = PyMem_Malloc((size_t)length + 1);
    if (!found.at) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(found.at, data, (size_t)length);
    found.count = (size_t)length / size;
    memcpy(array, &found, sizeof found);
    return 0;
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *takes, *constants, *indices, *nodes, *trees, *steps;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "SSSSSS", &takes, &constants, &indices, &nodes, &trees, &steps))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Program *self = (Program *)allocate(type, 0);
    if (!self)
        return NULL;
    if (copied("inputs", takes, 1, &self->takes) ||
        copied("constants", constants, sizeof(double), &self->constants) ||
        copied("indices", indices, sizeof(uint32_t), &self->indices) ||
        copied("nodes", nodes, sizeof(Node), &self->nodes) ||
        copied("trees", trees, sizeof(Tree), &self->trees) ||
        copied("steps", steps, sizeof(Step), &self->steps) || program_check(self)) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void program_dealloc(Program *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->takes.at);
    PyMem_Free(self->constants.at);
    PyMem_Free(self->indices.at);
    PyMem_Free(self->nodes.at);
    PyMem_Free(self->trees.at);
    PyMem_Free(self->steps.at);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF((PyObject *)type);
}

/* A number of a row; -1.0 with an error set. Other objects than floats may run Python code. */
static double number_at(PyObject *row, Py_ssize_t place)
{
    PyObject *item = PyList_Check(row) ? PyList_GetItem(row, place) : NULL;
    if (item && Py_IS_TYPE(item, &PyFloat_Type))
        return PyFloat_AsDouble(item);
    PyErr_Clear();
    item = PySequence_GetItem(row, place);
    if (!item)
        return -1.0;
    double value = PyFloat_AsDouble(item);
    Py_DECREF(item);
    return value;
}

static int refuse(Py_ssize_t number, Py_ssize_t column, double value)
{
    const char *name = isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    PyErr_Format(PyExc_ValueError, "row %zd: input %zd is %s, which the model does not take",
                 number, column, name);
    return -1;
}

static int read_row(const Program *self, PyObject *row, Py_ssize_t number, double *values)
{
    Py_ssize_t columns = (Py_ssize_t)self->takes.count, size = PySequence_Size(row);
    if (size < 0)
        return -1;
    if (size != columns) {
        PyErr_Format(PyExc_ValueError, "row %zd: %zd values; expected %zd", number, size, columns);
        return -1;
    }
    for (Py_ssize_t i = 0; i < columns; i++) {
        values[i] = number_at(row, i);
        if (values[i] == -1.0 && PyErr_Occurred())
            return -1;
    }
    for (Py_ssize_t i = 0; i < columns; i++)
        if (!isfinite(values[i]) &&
            !(self->takes.at[i] & (isnan(values[i]) ? TAKES_NAN : TAKES_INFINITY)))
            return refuse(number, i, values[i]);
    return 0;
}

/* Score so many rows from the first on; 0, or -1 with an error about the first wrong one. */
static int score_some(const Program *self, PyObject *rows, Py_ssize_t first, Py_ssize_t count,
                      double *values, PyObject *scores)
{
    Py_ssize_t ready = 0;
    int failed = 0;
    for (; ready < count && !failed; ready += !failed) {
        PyObject *row = PySequence_GetItem(rows, first + ready);
        failed = !row || read_row(self, row, first + ready, values + (size_t)ready * self->width);
        Py_XDECREF(row);
    }
    program_run(self, values, (size_t)ready);
    for (Py_ssize_t i = 0; i < ready; i++) {
        double score = values[((size_t)i + 1) * self->width - 1];
        if (isnan(score)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "row %zd: the model gives NaN; expected values that it "
                         "was trained for", first + i);
            return -1;
        }
        PyObject *number = failed ? NULL : PyFloat_FromDouble(score);
        if (!failed && (!number || PyList_SetItem(scores, first + i, number)))
            return -1;
    }
    return failed ? -1 : 0;
}

static PyObject *program_score(Program *self, PyObject *rows)
{
    double stack[ON_STACK], *values = stack;
    Py_ssize_t count = PySequence_Size(rows), at_once = 1;
    PyObject *scores = count < 0 ? NULL : PyList_New(count);
    if (!scores)
        return NULL;
    if (self->width < IN_CACHE)
        at_once = (Py_ssize_t)(IN_CACHE / self->width);
    at_once = at_once > MOST_ROWS ? MOST_ROWS : at_once;
    at_once = at_once > count ? count : at_once;
    if (self->width * (size_t)at_once > ON_STACK &&
        !(values = PyMem_Malloc(self->width * (size_t)at_once * sizeof *values))) {
        Py_DECREF(scores);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t first = 0; first < count && scores; first += at_once) {
        Py_ssize_t some = count - first < at_once ? count - first : at_once;
        if (score_some(self, rows, first, some, values, scores))
            Py_CLEAR(scores);
    }
    if (values != stack)
        PyMem_Free(values);
    return scores;
}

static PyObject *program_columns(Program *self, void *none)
{
    (void)none;
    return PyLong_FromSize_t(self->takes.count);
}

static PyMethodDef methods[] = {
    {"score", (PyCFunction)program_score, METH_O, "score(rows): one score per row."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"columns", (getter)program_columns, NULL, "How many inputs it takes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, program_new},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc, "Program(takes, constants, indices, nodes, trees, steps): scores rows."},
    {0, NULL},
};

PyType_Spec program_spec = {"headrace._program.Program", sizeof(Program), 0, Py_TPFLAGS_DEFAULT,
                            slots};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_program", "Runs compiled models.", -1, NULL, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__program(void)
{
    PyObject *module = PyModule_Create(&definition), *type = PyType_FromSpec(&program_spec);
    if (!module || !type || PyModule_AddObjectRef(module, "Program", type)) {
        Py_XDECREF(module);
        module = NULL;
    }
    Py_XDECREF(type);
    return module;
}
