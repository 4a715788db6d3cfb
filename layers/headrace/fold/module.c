/* headrace._fold: the fold and the codec of states that are rows alone.
 *
 * state.py, windows.py and rows.py say what is meant, and do whatever is left to them: events that
 * are late or were met before, views with tiles, revisions or lifetime windows, states of another
 * layout. This does the rest as they would, bit for bit and several times faster. */
#include "entity.h"

static PyMethodDef functions[] = {
    {"open", (PyCFunction)(void (*)(void))entity_open, METH_FASTCALL,
     "open(plan, data): (entity, newest arrival, last id, last time); None leaves it to Python."},
    {"empty", entity_empty, METH_O, "empty(plan): the state of an entity that has none."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_fold", "The fold and the codec of states that are rows alone.", -1,
    functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__fold(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    plan_type = (PyTypeObject *)PyType_FromSpec(&plan_spec);
    entity_type = (PyTypeObject *)PyType_FromSpec(&entity_spec);
    if (!plan_type || !entity_type || PyModule_AddObjectRef(module, "Plan", (PyObject *)plan_type) ||
        PyModule_AddObjectRef(module, "Entity", (PyObject *)entity_type)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
