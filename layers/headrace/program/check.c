/* Whether a program can run: every place that is read is there before, and every tree ends. In the
 * order and the words of program_twin.py. */
#include "program.h"

typedef struct {
    const Program *program;
    unsigned step;
    uint64_t out;       /* place of the step's first result */
    size_t trees, node; /* that were checked; where the next tree begins */
} Check;

/* Numbers lie among the constants, or among what is there of a row. */
static int check_read(const Check *check, uint64_t first, uint64_t count)
{
    uint64_t constants = check->program->constants.count;
    uint64_t end = first < constants ? constants : check->out;
    if (count >= 1 && first + count <= end)
        return 0;
    PyErr_Format(PyExc_ValueError, "step %u: reads %llu numbers at %llu; expected some before %llu",
                 check->step, (unsigned long long)count, (unsigned long long)first,
                 (unsigned long long)end);
    return -1;
}

static int check_indices(const Check *check, uint64_t first, uint64_t count)
{
    const Program *program = check->program;
    if (first + count > program->indices.count) {
        PyErr_Format(PyExc_ValueError,
                     "step %u: reads %llu indices at %llu; expected some before %zu", check->step,
                     (unsigned long long)count, (unsigned long long)first, program->indices.count);
        return -1;
    }
    for (uint64_t i = 0; i < count; i++)
        if (check_read(check, program->indices.at[first + i], 1))
            return -1;
    return 0;
}

/* Children have larger numbers than their parents: no path is endless. */
static int check_nodes(const Program *program, size_t tree, size_t root, uint32_t end,
                       uint32_t columns)
{
    for (size_t i = root; i < end; i++) {
        const Node *node = &program->nodes.at[i];
        int leads_on = node->child == 0 || (node->child > i && node->child < end - 1);
        if (!leads_on || node->look >> 1 >= columns) { /* a leaf's column is read, and not used */
            PyErr_Format(PyExc_ValueError,
                         "tree %zu: node %zu looks at %u and leads to %u; "
                         "expected a column below %u, and nodes after it below %u",
                         tree, i, node->look >> 1, node->child, columns, end);
            return -1;
        }
    }
    return 0;
}

static int check_trees(Check *check, const Step *step)
{
    const Program *program = check->program;
    size_t used = check->trees;
    if (step->b != used || step->c < 1 || step->c > program->trees.count - used) {
        PyErr_Format(PyExc_ValueError, "step %u: %u trees from %u; expected the next ones, %zu",
                     check->step, step->c, step->b, used);
        return -1;
    }
    for (; check->trees < used + step->c; check->trees++) {
        const Tree *tree = &program->trees.at[check->trees];
        if (tree->end <= check->node || tree->end > program->nodes.count ||
            tree->target >= step->size) {
            PyErr_Format(PyExc_ValueError,
                         "tree %zu: ends at node %u, adds to %u; expected others", check->trees,
                         tree->end, tree->target);
            return -1;
        }
        if (check_nodes(program, check->trees, check->node, tree->end, step->d))
            return -1;
        check->node = tree->end;
    }
    return 0;
}

static int check_step(Check *check, const Step *step)
{
    uint64_t size = step->size;
    switch ((Operation)step->operation) {
    case TAKE:
        return check_indices(check, step->a, size);
    case ADD: case SUBTRACT: case MULTIPLY: case DIVIDE: case EQUAL: case FILL:
        return check_read(check, step->a, size) || check_read(check, step->b, size) ? -1 : 0;
    case IS_NAN: case SINGLE: case NEGATE: case RELU: case EXP: case SIGMOID: case TANH:
        return check_read(check, step->a, size);
    case CLIP:
        return check_read(check, step->a, size) || check_read(check, step->b, 1) ||
               check_read(check, step->c, 1) ? -1 : 0;
    case DOT:
        return check_read(check, step->a, step->c) ||
               check_read(check, step->b, step->c * size) ? -1 : 0;
    case LEAST:
        return check_read(check, step->a, size == 1 ? step->c : 0);
    case TREES:
        return check_read(check, step->a, step->d) || check_trees(check, step) ? -1 : 0;
    }
    PyErr_Format(PyExc_ValueError, "step %u: operation is %u; expected 0 to %d", check->step,
                 step->operation, TREES);
    return -1;
}

static int check_steps(Check *check)
{
    const Program *program = check->program;
    uint64_t most = program->constants.count + MOST_VALUES;
    for (size_t i = 0; i < program->steps.count; i++) {
        const Step *step = &program->steps.at[i];
        check->step = (unsigned)i;
        if (step->size < 1 || step->size > most - check->out) {
            PyErr_Format(PyExc_ValueError, "step %u: gives %u numbers; expected 1 to %llu",
                         check->step, step->size, (unsigned long long)(most - check->out));
            return -1;
        }
        if (check_step(check, step))
            return -1;
        check->out += step->size;
    }
    return 0;
}

int program_check(Program *self)
{
    size_t columns = self->takes.count;
    if (columns < 1 || columns > MOST_COLUMNS) {
        PyErr_Format(PyExc_ValueError, "inputs: %zu; expected 1 to %d", columns, MOST_COLUMNS);
        return -1;
    }
    Check check = {self, 0, self->constants.count + columns, 0, 0};
    if (check_steps(&check))
        return -1;
    if (!self->steps.count || self->steps.at[self->steps.count - 1].size != 1) {
        PyErr_SetString(PyExc_ValueError, "steps: the last gives no score; expected one number");
        return -1;
    }
    if (check.trees != self->trees.count || check.node != self->nodes.count) {
        PyErr_Format(PyExc_ValueError, "trees: %zu are used; expected all, with all nodes",
                     check.trees);
        return -1;
    }
    self->width = check.out - self->constants.count;
    return 0;
}
