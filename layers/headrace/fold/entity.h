#ifndef HEADRACE_ENTITY_H
#define HEADRACE_ENTITY_H

#include "plan.h"

/* One entity's state, unpacked as far as it has been changed. */
typedef struct {
    PyObject_HEAD
    Plan *plan;
    PyObject *data; /* bytes, where what is unchanged lies */
    Buffer arrivals, digests; /* met lately: Unix seconds, six bytes each */
    size_t before;            /* those of earlier batches */
    View *view;
    Column *column;
} Entity;

enum { FORMAT = 1 };

extern PyTypeObject *entity_type, *plan_type; /* made when the module is */
extern PyType_Spec entity_spec;

PyObject *entity_pack(Entity *self, PyObject *const *args, Py_ssize_t count);
PyObject *entity_met(Entity *self, PyObject *none);
PyObject *entity_views(Entity *self, PyObject *none);

PyObject *entity_empty(PyObject *module, PyObject *plan);
PyObject *entity_open(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
