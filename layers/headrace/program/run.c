/* The steps, one after another, each over all rows: a tree that has been fetched serves many rows.
 * What a row gets depends on no other row. */
#include "program.h"

#include <math.h>
#include <string.h>

/* Where a step reads and writes: a constant is the same for all rows. */
typedef struct {
    const double *at;
    size_t stride;
} Place;

static Place place_of(const Program *self, const double *rows, uint32_t number)
{
    if (number < self->constants.count)
        return (Place){self->constants.at + number, 0};
    return (Place){rows + (number - self->constants.count), self->width};
}

#define EACH_ROW for (size_t r = 0; r < count; r++, out += self->width)

#define OF_TWO(expression)                                                                        \
    EACH_ROW {                                                                                    \
        const double *restrict one = a.at + r * a.stride, *restrict two = b.at + r * b.stride;    \
        for (uint32_t i = 0; i < step->size; i++) {                                               \
            double x = one[i], y = two[i];                                                        \
            out[i] = (expression);                                                                \
        }                                                                                         \
    }                                                                                             \
    return

#define OF_ONE(expression)                                                                        \
    EACH_ROW {                                                                                    \
        const double *restrict one = a.at + r * a.stride;                                         \
        for (uint32_t i = 0; i < step->size; i++) {                                               \
            double x = one[i];                                                                    \
            out[i] = (expression);                                                                \
        }                                                                                         \
    }                                                                                             \
    return

static void run_take(const Program *self, const Step *step, const double *rows, double *out,
                     size_t count)
{
    const uint32_t *place = self->indices.at + step->a;
    for (uint32_t i = 0; i < step->size; i++) {
        Place from = place_of(self, rows, place[i]);
        for (size_t r = 0; r < count; r++)
            out[r * self->width + i] = from.at[r * from.stride];
    }
}

static void run_clip(const Program *self, const Step *step, const double *rows, double *out,
                     size_t count)
{
    Place a = place_of(self, rows, step->a), b = place_of(self, rows, step->b),
          c = place_of(self, rows, step->c);
    EACH_ROW {
        double low = b.at[r * b.stride], high = c.at[r * c.stride];
        for (uint32_t i = 0; i < step->size; i++) {
            double x = a.at[r * a.stride + i];
            out[i] = x < low ? low : x > high ? high : x;
        }
    }
}

/* Every sum from the first summand to the last: the columns side by side. */
static void run_dot(const Program *self, const Step *step, const double *rows, double *out,
                    size_t count)
{
    Place a = place_of(self, rows, step->a), b = place_of(self, rows, step->b);
    EACH_ROW {
        const double *x = a.at + r * a.stride, *weights = b.at + r * b.stride;
        memset(out, 0, step->size * sizeof *out);
        for (uint32_t i = 0; i < step->c; i++, weights += step->size)
            for (uint32_t j = 0; j < step->size; j++)
                out[j] += x[i] * weights[j];
    }
}

static void run_least(const Program *self, const Step *step, const double *rows, double *out,
                      size_t count)
{
    Place a = place_of(self, rows, step->a);
    EACH_ROW {
        const double *x = a.at + r * a.stride;
        double least = x[0];
        for (uint32_t i = 1; i < step->c; i++)
            least = x[i] < least ? x[i] : least;
        *out = least;
    }
}

/* A node's child without a branch: which way a row goes cannot be foretold. */
static inline uint32_t below(const Node *node, const double *x)
{
    double value = x[node->look >> 1];
    uint32_t left = (value <= node->split) | ((value != value) & node->look & 1);
    return node->child + 1 - left;
}

/* Walks side by side: while one waits for memory, the processor goes on with the others. */
enum { LANES = 8 };

typedef struct {
    uint32_t node[LANES];
    const double *x[LANES];
} Walks;

/* All of them to their leaves; one that has arrived stays. */
static void walk(const Node *nodes, Walks *walks)
{
    uint32_t on = 1;
    while (on) {
        on = 0;
        for (int i = 0; i < LANES; i++) {
            const Node *node = nodes + walks->node[i];
            uint32_t next = below(node, walks->x[i]);
            walks->node[i] = node->child ? next : walks->node[i];
            on |= node->child;
        }
    }
}

static double leaf(const Node *nodes, uint32_t root, const double *x)
{
    const Node *node = nodes + root;
    while (node->child)
        node = nodes + below(node, x);
    return node->split;
}

static uint32_t root_of(const Tree *trees, uint32_t tree)
{
    return tree ? trees[tree - 1].end : 0;
}

/* One tree and many rows. */
static void run_tree(const Program *self, uint32_t tree, Place x, double *out, size_t count)
{
    const Node *nodes = self->nodes.at;
    uint32_t root = root_of(self->trees.at, tree);
    Walks walks;
    size_t r = 0;
    out += self->trees.at[tree].target;
    for (; r + LANES <= count; r += LANES) {
        for (size_t i = 0; i < LANES; i++) {
            walks.node[i] = root;
            walks.x[i] = x.at + (r + i) * x.stride;
        }
        walk(nodes, &walks);
        for (size_t i = 0; i < LANES; i++)
            out[(r + i) * self->width] += nodes[walks.node[i]].split;
    }
    for (; r < count; r++)
        out[r * self->width] += leaf(nodes, root, x.at + r * x.stride);
}

/* One row and many trees; summed up in their order. */
static void run_row(const Program *self, const Step *step, const double *x, double *out)
{
    const Node *nodes = self->nodes.at;
    const Tree *trees = self->trees.at;
    uint32_t tree = step->b, end = step->b + step->c;
    Walks walks;
    for (; tree + LANES <= end; tree += LANES) {
        for (uint32_t i = 0; i < LANES; i++) {
            walks.node[i] = root_of(trees, tree + i);
            walks.x[i] = x;
        }
        walk(nodes, &walks);
        for (uint32_t i = 0; i < LANES; i++)
            out[trees[tree + i].target] += nodes[walks.node[i]].split;
    }
    for (; tree < end; tree++)
        out[trees[tree].target] += leaf(nodes, root_of(trees, tree), x);
}

static void run_trees(const Program *self, const Step *step, const double *rows, double *out,
                      size_t count)
{
    Place a = place_of(self, rows, step->a);
    for (size_t r = 0; r < count; r++)
        memset(out + r * self->width, 0, step->size * sizeof *out);
    if (count < LANES) {
        for (size_t r = 0; r < count; r++)
            run_row(self, step, a.at + r * a.stride, out + r * self->width);
        return;
    }
    for (uint32_t tree = step->b; tree < step->b + step->c; tree++)
        run_tree(self, tree, a, out, count);
}

static void run_step(const Program *self, const Step *step, const double *rows, double *out,
                     size_t count)
{
    switch ((Operation)step->operation) {
    case TAKE: run_take(self, step, rows, out, count); return;
    case CLIP: run_clip(self, step, rows, out, count); return;
    case DOT: run_dot(self, step, rows, out, count); return;
    case LEAST: run_least(self, step, rows, out, count); return;
    case TREES: run_trees(self, step, rows, out, count); return;
    default: break;
    }
    Place a = place_of(self, rows, step->a), b = {NULL, 0};
    if (step->operation <= FILL)
        b = place_of(self, rows, step->b);
    switch ((Operation)step->operation) {
    case ADD: OF_TWO(x + y);
    case SUBTRACT: OF_TWO(x - y);
    case MULTIPLY: OF_TWO(x * y);
    case DIVIDE: OF_TWO(x / y);
    case EQUAL: OF_TWO(x == y ? 1.0 : 0.0);
    case FILL: OF_TWO(x != x ? y : x);
    case IS_NAN: OF_ONE(x != x ? 1.0 : 0.0);
    case SINGLE: OF_ONE((double)(float)x);
    case NEGATE: OF_ONE(-x);
    case RELU: OF_ONE(x < 0.0 ? 0.0 : x);
    case EXP: OF_ONE(exp(x));
    case SIGMOID: OF_ONE(1.0 / (1.0 + exp(-x)));
    case TANH: OF_ONE(tanh(x));
    default: return; /* program_check lets nothing else through */
    }
}

void program_run(const Program *self, double *rows, size_t count)
{
    double *out = rows + self->takes.count;
    for (size_t i = 0; i < self->steps.count; i++) {
        const Step *step = &self->steps.at[i];
        run_step(self, step, rows, out, count);
        out += step->size;
    }
}
