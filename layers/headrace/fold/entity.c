/* The state of one entity: unpacked and folded into. */
#include "entity.h"

#include <stddef.h>

PyTypeObject *entity_type;
PyTypeObject *plan_type;

static Entity *entity_alloc(Plan *plan)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(entity_type, Py_tp_alloc);
    Entity *self = (Entity *)allocate(entity_type, 0);
    if (!self)
        return NULL;
    size_t views = (size_t)plan->views * sizeof(View);
    self->view = PyMem_Calloc(1, views + (size_t)plan->columns * sizeof(Column) + 1);
    if (!self->view) {
        Py_DECREF((PyObject *)self);
        PyErr_NoMemory();
        return NULL;
    }
    self->column = (Column *)((char *)self->view + views);
    Py_INCREF((PyObject *)plan);
    self->plan = plan;
    Column *column = self->column;
    for (int i = 0; i < plan->views; i++) {
        self->view[i].rows.column = column;
        view_open_empty(&self->view[i], &plan->view[i]);
        column += plan->view[i].fields;
    }
    return self;
}

static void entity_dealloc(Entity *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    for (int i = 0; self->plan && i < self->plan->views; i++)
        view_free(&self->view[i]);
    buffer_free(&self->arrivals);
    buffer_free(&self->digests);
    PyMem_Free(self->view);
    Py_XDECREF(self->data);
    Py_XDECREF((PyObject *)self->plan);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF((PyObject *)type);
}

PyObject *entity_empty(PyObject *module, PyObject *plan)
{
    (void)module;
    if (Py_TYPE(plan) != plan_type) {
        PyErr_SetString(PyExc_TypeError, "empty: expected a Plan");
        return NULL;
    }
    return (PyObject *)entity_alloc((Plan *)plan);
}

static int read_views(Entity *self, Reader *reader)
{
    size_t stored = read_map(reader);
    for (size_t n = 0; n < stored && !reader->failed; n++) {
        Slice name = read_text(reader), bytes = read_bytes(reader);
        for (int i = 0; !reader->failed && i < self->plan->views; i++) {
            const ViewPlan *plan = &self->plan->view[i];
            if (plan->text_size != name.size || memcmp(plan->text, name.bytes, name.size))
                continue;
            if (self->view[i].stored.bytes || view_read(&self->view[i], bytes))
                return -1;
            if (self->view[i].wild)
                return -1;
        }
    }
    return reader->failed || reader->at != reader->end ? -1 : 0;
}

/* open(plan, data) -> (entity, newest arrival, last id, last time), or None: left to Python. */
PyObject *entity_open(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    char *bytes;
    Py_ssize_t size;
    if (count != 2 || Py_TYPE(args[0]) != plan_type) {
        PyErr_SetString(PyExc_TypeError, "open: expected a Plan and bytes");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(args[1], &bytes, &size))
        return NULL;
    Reader reader = {(uint8_t *)bytes, (uint8_t *)bytes + size, 0};
    if (read_array(&reader) != 7 || read_int(&reader) != FORMAT)
        Py_RETURN_NONE;
    long long newest = read_int(&reader);
    Slice last_id = read_text(&reader);
    long long last_time = read_int(&reader);
    Slice arrivals = read_bytes(&reader), digests = read_bytes(&reader);
    if (reader.failed || arrivals.size % 4 || digests.size != arrivals.size / 4 * DIGEST_BYTES)
        Py_RETURN_NONE;
    Entity *self = entity_alloc((Plan *)args[0]);
    if (!self)
        return NULL;
    Py_INCREF(args[1]);
    self->data = args[1];
    self->arrivals = buffer_borrowed(arrivals.bytes, arrivals.size);
    self->digests = buffer_borrowed(digests.bytes, digests.size);
    self->before = arrivals.size / 4;
    if (read_views(self, &reader)) {
        Py_DECREF((PyObject *)self);
        Py_RETURN_NONE;
    }
    PyObject *id = PyUnicode_DecodeUTF8((char *)last_id.bytes, (Py_ssize_t)last_id.size, NULL);
    if (!id) { /* Python says what is wrong with it */
        Py_DECREF((PyObject *)self);
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return Py_BuildValue("NLNL", self, newest, id, last_time);
}

static int64_t whole_seconds(int64_t us) { return us / 1000000 - (us % 1000000 < 0); }

/* Put the event into the views that take it, and have all of them say what features there are. */
static int fold(Entity *self, const Arriving *event, const Verdict *verdicts,
                Value (*values)[MOST_FIELDS], Said *said)
{
    for (int i = 0; i < self->plan->views; i++) {
        View *view = &self->view[i];
        int after = verdicts[i] != OF_ANOTHER && view->plan->counts_current;
        if (said)
            view_note_before(view, event->time, said);
        if (said && !after && view_say(view, event->time, said))
            return -1;
        if (verdicts[i] == TAKES && view_take(view, event, values[i]))
            return -1;
        if (said && after && view_say(view, event->time, said))
            return -1;
    }
    return 0;
}

static int note_met(Entity *self, const Arriving *event)
{
    uint32_t arrival = (uint32_t)whole_seconds(event->arrival);
    if (buffer_append(&self->arrivals, &arrival, 4) ||
        buffer_append(&self->digests, event->digest, DIGEST_BYTES)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* (features, new, repeated, late, seen, newest[, cut]), as an EntityPart begins. */
static PyObject *part_of(const Said *said, int is_new)
{
    PyObject *truth[] = {Py_False, Py_True};
    PyObject *newest = Py_None;
    if (said->has_newest)
        newest = PyLong_FromLongLong(said->newest);
    else
        Py_INCREF(newest);
    if (!newest)
        return NULL;
    PyObject *part = PyTuple_New(said->cut ? 7 : 6);
    PyObject *parts[] = {said->features, truth[is_new], Py_False, Py_False, truth[said->seen], newest,
                         said->cut};
    for (Py_ssize_t i = 0; part && i < PyTuple_Size(part); i++) {
        Py_INCREF(parts[i]);
        PyTuple_SetItem(part, i, parts[i]);
    }
    Py_DECREF(newest);
    return part;
}

/* What ``judge`` found of all views: whether one leaves the event to Python, whether one takes it. */
static Verdict judge(Entity *self, int source, const Arriving *event, Verdict *verdicts,
                     Value (*values)[MOST_FIELDS])
{
    Verdict found = PASSES;
    if (event->arrival < 0 || whole_seconds(event->arrival) > UINT32_MAX ||
        rows_has(&self->digests, event->digest))
        return LEFT_TO_PYTHON;
    for (int i = 0; i < self->plan->views; i++) {
        verdicts[i] = OF_ANOTHER; /* it only says what it has */
        if (self->plan->view[i].source != source)
            continue;
        verdicts[i] = view_judge(&self->view[i], event, values[i]);
        if (verdicts[i] == FAILED || verdicts[i] == LEFT_TO_PYTHON)
            return verdicts[i];
        if (verdicts[i] == TAKES)
            found = TAKES;
    }
    return found;
}

/* step(source, time, digest, arrival, fields) -> what an EntityPart says, or None: left to Python. */
static PyObject *entity_step(Entity *self, PyObject *const *args, Py_ssize_t count)
{
    Value values[MOST_VIEWS][MOST_FIELDS];
    Verdict verdicts[MOST_VIEWS];
    Arriving event;
    char *digest;
    Py_ssize_t size;
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "step: expected source, time, digest, arrival and fields");
        return NULL;
    }
    int source = (int)PyLong_AsLong(args[0]);
    event.time = PyLong_AsLongLong(args[1]);
    event.arrival = PyLong_AsLongLong(args[3]);
    event.fields = args[4];
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(args[2], &digest, &size))
        return NULL;
    if (size != DIGEST_BYTES) {
        PyErr_Format(PyExc_ValueError, "step: digest has %zd bytes; expected six", size);
        return NULL;
    }
    event.digest = (uint8_t *)digest;
    Verdict verdict = judge(self, source, &event, verdicts, values);
    if (verdict == FAILED)
        return NULL;
    if (verdict == LEFT_TO_PYTHON)
        Py_RETURN_NONE;
    int scored = source == self->plan->scored;
    Said said = {PyList_New(0), NULL, 0, 0, 0};
    PyObject *part = NULL;
    if (said.features && !fold(self, &event, verdicts, values, scored ? &said : NULL) &&
        ((verdict != TAKES && !scored) || !note_met(self, &event)))
        part = part_of(&said, verdict == TAKES);
    Py_XDECREF(said.features);
    Py_XDECREF(said.cut);
    return part;
}

/* look(as of) -> what an EntityPart says without an event */
static PyObject *entity_look(Entity *self, PyObject *as_of)
{
    int64_t time = PyLong_AsLongLong(as_of);
    if (time == -1 && PyErr_Occurred())
        return NULL;
    Said said = {PyList_New(0), NULL, 0, 0, 0};
    int failed = said.features == NULL;
    for (int i = 0; i < self->plan->views && !failed; i++) {
        view_note_before(&self->view[i], time, &said);
        failed = view_say(&self->view[i], time, &said);
    }
    PyObject *part = failed ? NULL : part_of(&said, 0);
    Py_XDECREF(said.features);
    Py_XDECREF(said.cut);
    return part;
}

static PyMethodDef entity_methods[] = {
    {"step", (PyCFunction)(void (*)(void))entity_step, METH_FASTCALL,
     "step(source, time, digest, arrival, fields): what an EntityPart says; None leaves it to Python."},
    {"look", (PyCFunction)(void (*)(void))entity_look, METH_O,
     "look(as_of): what an EntityPart says without an event."},
    {"pack", (PyCFunction)(void (*)(void))entity_pack, METH_FASTCALL,
     "pack(newest_arrival, last_id, last_time): the state as bytes."},
    {"met", (PyCFunction)(void (*)(void))entity_met, METH_NOARGS,
     "met(): what a Recent is made from."},
    {"views", (PyCFunction)(void (*)(void))entity_views, METH_NOARGS,
     "views(): view -> its bytes."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot entity_slots[] = {
    {Py_tp_dealloc, entity_dealloc},
    {Py_tp_methods, entity_methods},
    {Py_tp_doc, "One entity's state, unpacked as far as it has been changed."},
    {0, NULL},
};

PyType_Spec entity_spec = {"headrace._fold.Entity", sizeof(Entity), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                  entity_slots};
