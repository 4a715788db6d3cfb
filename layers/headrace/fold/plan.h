/* The views of one entity, made ready once for a definition. */
#ifndef HEADRACE_PLAN_H
#define HEADRACE_PLAN_H

#include "view.h"

typedef struct {
    PyObject_HEAD
    int views, scored; /* scored: number of the source whose events have features */
    int columns;       /* of all views */
    ViewPlan *view;
} Plan;

extern PyType_Spec plan_spec;

#endif
