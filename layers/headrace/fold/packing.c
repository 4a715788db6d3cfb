/* The state of one entity: packed, whole or view by view. */
#include "entity.h"

enum { MOST = 512, MOST_OF_A_BATCH = 4096, KEPT_SECONDS = 3600 }; /* as recent.py has them */

/* Forget what can hardly be delivered again: Recent.trim. */
static void trim(Entity *self)
{
    size_t n = self->arrivals.size / 4, keep = 0;
    const uint8_t *arrivals = self->arrivals.bytes;
    uint32_t newest = 0, arrival;
    if (!n)
        return;
    for (size_t i = 0; i < n; i++) {
        memcpy(&arrival, arrivals + i * 4, 4);
        newest = arrival > newest ? arrival : newest;
    }
    size_t most = n - self->before <= MOST ? MOST : MOST_OF_A_BATCH;
    keep = n > most ? n - most : 0;
    for (; keep < self->before; keep++) {
        memcpy(&arrival, arrivals + keep * 4, 4);
        if ((int64_t)arrival >= (int64_t)newest - KEPT_SECONDS)
            break;
    }
    buffer_drop(&self->arrivals, keep * 4);
    buffer_drop(&self->digests, keep * DIGEST_BYTES);
}

static int is_there(const View *view) { return view->changed || view->stored.bytes != NULL; }

/* The view's bytes behind their number, which is known only when they are written. */
static void write_view(const View *view, Buffer *out)
{
    enum { LONGEST_HEAD = 5 };
    uint8_t head[LONGEST_HEAD];
    Buffer number = {head, 0, LONGEST_HEAD};
    size_t start = out->size;
    out->size += LONGEST_HEAD;
    view_write(view, out);
    size_t size = out->size - start - LONGEST_HEAD;
    write_sized_head(&number, 0xc4, size);
    memmove(out->bytes + start + number.size, out->bytes + start + LONGEST_HEAD, size);
    memcpy(out->bytes + start, head, number.size);
    out->size = start + number.size + size;
}

static void write_views(const Entity *self, Buffer *out)
{
    size_t there = 0;
    for (int i = 0; i < self->plan->views; i++)
        there += (size_t)is_there(&self->view[i]);
    write_count(out, 0x80, 0xde, there);
    for (int i = 0; i < self->plan->views; i++) {
        const View *view = &self->view[i];
        if (!is_there(view))
            continue;
        write_text(out, view->plan->text, view->plan->text_size);
        if (!view->changed) {
            write_bytes(out, view->stored.bytes, view->stored.size);
            continue;
        }
        write_view(view, out);
    }
}

/* pack(newest arrival, last id, last time) -> bytes */
PyObject *entity_pack(Entity *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t id_size;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "pack: expected newest arrival, last id and last time");
        return NULL;
    }
    int64_t newest = PyLong_AsLongLong(args[0]), last_time = PyLong_AsLongLong(args[2]);
    const char *last_id = PyUnicode_AsUTF8AndSize(args[1], &id_size);
    if (!last_id || PyErr_Occurred())
        return NULL;
    trim(self);
    size_t size = 64 + (size_t)id_size + self->arrivals.size + self->digests.size;
    for (int i = 0; i < self->plan->views; i++)
        size += 16 + self->plan->view[i].text_size + view_packed_size(&self->view[i]);
    Buffer out = {0};
    if (buffer_reserve(&out, size))
        return PyErr_NoMemory();
    write_count(&out, 0x90, 0xdc, 7);
    write_int(&out, FORMAT);
    write_int(&out, newest);
    write_text(&out, last_id, (size_t)id_size);
    write_int(&out, last_time);
    write_bytes(&out, self->arrivals.bytes, self->arrivals.size);
    write_bytes(&out, self->digests.bytes, self->digests.size);
    write_views(self, &out);
    PyObject *packed = PyBytes_FromStringAndSize((char *)out.bytes, (Py_ssize_t)out.size);
    buffer_free(&out);
    return packed;
}

/* met() -> (arrivals, digests, how many of them are of earlier batches): of a Recent */
PyObject *entity_met(Entity *self, PyObject *none)
{
    (void)none;
    return Py_BuildValue("y#Nn", self->arrivals.bytes ? (char *)self->arrivals.bytes : "",
                         (Py_ssize_t)self->arrivals.size,
                         PyByteArray_FromStringAndSize((char *)self->digests.bytes,
                                                       (Py_ssize_t)self->digests.size),
                         (Py_ssize_t)self->before);
}

static PyObject *packed_view(const View *view)
{
    if (!view->changed)
        return PyBytes_FromStringAndSize((char *)view->stored.bytes, (Py_ssize_t)view->stored.size);
    Buffer packed = {0};
    if (buffer_reserve(&packed, view_packed_size(view)))
        return PyErr_NoMemory();
    view_write(view, &packed);
    PyObject *found = PyBytes_FromStringAndSize((char *)packed.bytes, (Py_ssize_t)packed.size);
    buffer_free(&packed);
    return found;
}

/* views() -> view -> bytes, of those that are there */
PyObject *entity_views(Entity *self, PyObject *none)
{
    (void)none;
    PyObject *views = PyDict_New();
    for (int i = 0; views && i < self->plan->views; i++) {
        const View *view = &self->view[i];
        if (!is_there(view))
            continue;
        PyObject *packed = packed_view(view);
        if (!packed || PyDict_SetItem(views, view->plan->name, packed))
            Py_CLEAR(views);
        Py_XDECREF(packed);
    }
    return views;
}
