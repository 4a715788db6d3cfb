#include "plan.h"

#include <stddef.h>

static int own_fields(ViewPlan *plan, PyObject *fields)
{
    plan->fields = (int)PyTuple_Size(fields);
    if (plan->fields > MOST_FIELDS) {
        PyErr_Format(PyExc_ValueError, "view: got %d fields; expected at most %d", plan->fields,
                     MOST_FIELDS);
        return -1;
    }
    plan->field = PyMem_Calloc((size_t)plan->fields + 1, sizeof *plan->field);
    for (int i = 0; plan->field && i < plan->fields; i++) {
        PyObject *name, *hash;
        if (!PyArg_ParseTuple(PyTuple_GetItem(fields, i), "UO", &name, &hash))
            return -1;
        Py_INCREF(name);
        plan->field[i].name = name;
        if (hash != Py_None) {
            Py_INCREF(hash);
            plan->field[i].hash = hash;
        }
    }
    return plan->field ? 0 : -1;
}

static int own_windows(ViewPlan *plan, PyObject *windows)
{
    plan->windows = (int)PyTuple_Size(windows);
    plan->window = PyMem_Calloc((size_t)plan->windows + 1, sizeof *plan->window);
    for (int i = 0; plan->window && i < plan->windows; i++) {
        plan->window[i] = PyLong_AsLongLong(PyTuple_GetItem(windows, i));
        if (plan->window[i] > plan->longest)
            plan->longest = plan->window[i];
    }
    return plan->window && !PyErr_Occurred() ? 0 : -1;
}

static int own_aggregates(ViewPlan *plan, PyObject *aggregates)
{
    plan->aggregates = (int)PyTuple_Size(aggregates);
    plan->aggregate = PyMem_Calloc((size_t)plan->aggregates + 1, sizeof *plan->aggregate);
    for (int i = 0; plan->aggregate && i < plan->aggregates; i++) {
        Aggregate *each = &plan->aggregate[i];
        int kind, reading;
        if (!PyArg_ParseTuple(PyTuple_GetItem(aggregates, i), "iiii", &kind, &reading,
                              &each->column, &each->n))
            return -1;
        int of_field = kind != ROW_COUNT && kind != NEWEST;
        if (kind < ROW_COUNT || kind > DIFFERENT || reading < READ_COUNT || reading > READ_LAST_N ||
            each->n < 1 || each->column >= plan->fields || (of_field && each->column < 0)) {
            PyErr_Format(PyExc_ValueError, "aggregate: got (%d, %d, %d, %d); expected one of "
                         "compiled_fold's", kind, reading, each->column, each->n);
            return -1;
        }
        each->kind = (Kind)kind, each->reading = (Reading)reading;
        plan->width += each->n;
    }
    return plan->aggregate ? 0 : -1;
}

static int own_view(ViewPlan *plan, PyObject *view)
{
    PyObject *name, *where, *fields, *windows, *aggregates;
    const char *layout;
    Py_ssize_t layout_size, text_size;
    long long delay, retention;
    if (!PyArg_ParseTuple(view, "Uy#iOLLpdO!O!O!", &name, &layout, &layout_size, &plan->source,
                          &where, &delay, &retention, &plan->counts_current, &plan->most_row_bytes,
                          &PyTuple_Type, &fields, &PyTuple_Type, &windows, &PyTuple_Type,
                          &aggregates))
        return -1;
    if (layout_size != 4) {
        PyErr_SetString(PyExc_ValueError, "view: layout has not four bytes");
        return -1;
    }
    memcpy(plan->layout, layout, 4);
    plan->delay = delay, plan->retention = retention;
    if (where != Py_None) {
        Py_INCREF(where);
        plan->where = where;
    }
    Py_INCREF(name);
    plan->name = name;
    plan->text = PyUnicode_AsUTF8AndSize(name, &text_size);
    plan->text_size = (size_t)text_size;
    if (!plan->text)
        return -1;
    return own_fields(plan, fields) || own_windows(plan, windows) || own_aggregates(plan, aggregates)
               ? -1 : 0;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"views", "scored", NULL};
    PyObject *views;
    int scored;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!i", names, &PyTuple_Type, &views, &scored))
        return NULL;
    if (PyTuple_Size(views) > MOST_VIEWS) {
        PyErr_Format(PyExc_ValueError, "plan: got %zd views; expected at most %d",
                     PyTuple_Size(views), MOST_VIEWS);
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Plan *self = (Plan *)allocate(type, 0);
    if (!self)
        return NULL;
    self->scored = scored;
    self->views = (int)PyTuple_Size(views);
    self->view = PyMem_Calloc((size_t)self->views + 1, sizeof *self->view);
    if (!self->view) {
        self->views = 0;
        Py_DECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    for (int i = 0; i < self->views; i++) {
        if (own_view(&self->view[i], PyTuple_GetItem(views, i))) {
            Py_DECREF((PyObject *)self);
            return PyErr_Occurred() ? NULL : PyErr_NoMemory();
        }
        self->columns += self->view[i].fields;
    }
    return (PyObject *)self;
}

static void plan_dealloc(Plan *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    for (int i = 0; i < self->views; i++) {
        ViewPlan *plan = &self->view[i];
        for (int j = 0; plan->field && j < plan->fields; j++) {
            Py_XDECREF(plan->field[j].name);
            Py_XDECREF(plan->field[j].hash);
        }
        Py_XDECREF(plan->where);
        Py_XDECREF(plan->name);
        PyMem_Free(plan->field);
        PyMem_Free(plan->window);
        PyMem_Free(plan->aggregate);
    }
    PyMem_Free(self->view);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF((PyObject *)type);
}

static PyType_Slot plan_slots[] = {
    {Py_tp_new, plan_new},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_doc, "The views of one entity, made ready: Plan(views, scored)."},
    {0, NULL},
};

PyType_Spec plan_spec = {"headrace._fold.Plan", sizeof(Plan), 0, Py_TPFLAGS_DEFAULT, plan_slots};
