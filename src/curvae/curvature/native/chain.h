/* A block of data in a ReLU chain: the log joint at their points, its gradient there, and the memory for both.

   Every product has the form  out_i = sum_c a_i[c] w_c  with rows w_c of a weight, padded where they need it.

   Included by search.c and last.c, once per number type; its macros are the same each time, for the names of that type. */

#include "dot.h"

#ifndef BLOCK
#define TALL (MANY_REGISTERS ? 6 : 4) /* rows and vectors of a tile: as many sums as registers hold */
#define WIDE (MANY_REGISTERS ? 4 : 2)
#define BLOCK 48 /* items: a multiple of every height of a tile */
#endif

/* What all items share; index l = 1 .. L is a layer, strides are widths in whole vectors. */
#define CHAIN NAME(Chain)
typedef struct {
    size depth;
    const size *widths; /* D, H_1 .. H_L */
    size stride[LAYERS + 1]; /* of rows so wide */
    const REAL *const *weights, *const *biases, *gram, *level, *origin, *pitch; /* as given */
    const REAL *forth[LAYERS + 1], *back[LAYERS + 1], *bias[LAYERS + 1], *bend; /* W_l', W_l, b_l and G, padded */
} CHAIN;

/* What kernel.c gives. */
void NAME(turn)(const REAL *m, size columns, size count, size wide, REAL *to, size stride);
int NAME(precision)(size depth, const size *widths, const REAL *const *weights, const uint8_t *const *masks,
                    const REAL *gram, const REAL *own, size begin, size end, REAL *lam, REAL *kept,
                    const int64_t *starts);

#define POINT NAME(Point)
typedef struct {
    REAL *value[LAYERS + 1]; /* z, then what the layers give */
    REAL *slope;             /* of log p(x | h) in the last of them */
    REAL log_joint;
} POINT;

#define ITEM NAME(Item)
typedef struct {
    POINT here, there;
    REAL *grad, *last, *step, *factor, *offset; /* last: the gradient before, or where a step was tried in vain */
    REAL *pulled[LAYERS + 1];                    /* the slope, back through the layers after l */
    REAL *steps, *falls, *weights, *shares;        /* of BFGS, one for each pair */
    const REAL *origin, *pitch;
    REAL level, gain, length;
    size index, pairs;
    int moved, moves, done; /* since the factor was made, in the last step, for good */
} ITEM;

/* here for there */
static void NAME(exchange)(ITEM *item) {
    POINT old = item->here;
    item->here = item->there, item->there = old;
}

INLINE void NAME(tile)(const int vectors, const REAL *const *a, size count, const REAL *w, size stride,
                       REAL *const *out, size at) {
    VEC sum[TALL][WIDE], row[WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < TALL; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (VEC){0};
    for (size c = 0; c < count; c++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            row[v] = *(const VEC *)(w + c * stride + at + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < TALL; i++) {
            VEC factor = a[i][c] - (VEC){0};
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i][v] += factor * row[v];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < TALL; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            *(VEC *)(out[i] + at + v * LANES) = sum[i][v];
}

/* From one row to the next: whole vectors, and not 2 KiB or a multiple, which few sets of a cache would have to hold. */
static size NAME(pitch)(size width) {
    size whole = up(width, LANES);
    return whole % (size)(2048 / sizeof(REAL)) ? whole : whole + LANES;
}

/* out_i = sum_c a_i[c] w_c for n rows i; the lists have room for a whole tile. */
static void NAME(product)(size n, const REAL **a, size count, const REAL *w, size width, REAL **out) {
    size stride = NAME(pitch)(width);
    for (size i = n; i % TALL; i++)
        a[i] = a[n - 1], out[i] = out[n - 1];
    for (size at = 0; at < width;) {
        int wide = at + WIDE * LANES <= up(width, LANES);
        for (size i = 0; i < n; i += TALL)
            if (wide)
                NAME(tile)(WIDE, a + i, count, w, stride, out + i, at);
            else
                NAME(tile)(1, a + i, count, w, stride, out + i, at);
        at += wide ? WIDE * LANES : LANES;
    }
}

#define LISTS                                                                                                          \
    const REAL *in[BLOCK + TALL];                                                                                      \
    REAL *out[BLOCK + TALL]

/* The log joint at there, where the layers' values are known, and its slope in the last of them. */
static void NAME(weigh)(const CHAIN *chain, ITEM *const *items, size n) {
    LISTS;
    size top = chain->depth, width = chain->widths[top];
    for (size i = 0; i < n; i++) {
        for (size k = 0; k < width; k++)
            items[i]->offset[k] = items[i]->there.value[top][k] - items[i]->origin[k];
        in[i] = items[i]->offset, out[i] = items[i]->there.slope;
    }
    NAME(product)(n, in, width, chain->bend, width, out);
    for (size i = 0; i < n; i++) {
        const REAL *pitch = items[i]->pitch, *z = items[i]->there.value[0];
        for (size k = 0; k < width; k++)
            out[i][k] = pitch[k] - out[i][k];
        REAL fit = NAME(dot)(in[i], pitch, width) + NAME(dot)(in[i], out[i], width);
        items[i]->there.log_joint = items[i]->level + (fit - NAME(dot)(z, z, chain->widths[0])) / 2;
    }
}

/* The same at there.z. */
static void NAME(look)(const CHAIN *chain, ITEM *const *items, size n) {
    LISTS;
    if (!n)
        return;
    for (size l = 1; l <= chain->depth; l++) {
        for (size i = 0; i < n; i++)
            in[i] = items[i]->there.value[l - 1], out[i] = items[i]->there.value[l];
        NAME(product)(n, in, chain->widths[l - 1], chain->forth[l], chain->widths[l], out);
        for (size i = 0; i < n; i++)
            for (size k = 0; k < chain->stride[l]; k++) {
                REAL value = out[i][k] + chain->bias[l][k];
                out[i][k] = value < 0 ? 0 : value;
            }
    }
    NAME(weigh)(chain, items, n);
}

/* The gradient of the log joint in z, here. */
static void NAME(gradient)(const CHAIN *chain, ITEM *const *items, size n) {
    LISTS;
    size top = chain->depth;
    for (size i = 0; i < n; i++) {
        REAL *last = items[i]->last;
        items[i]->last = items[i]->grad, items[i]->grad = last;
        memcpy(items[i]->pulled[top], items[i]->here.slope, chain->stride[top] * sizeof(REAL));
    }
    for (size l = top; l >= 1; l--) {
        for (size i = 0; i < n; i++) {
            REAL *slope = items[i]->pulled[l], *value = items[i]->here.value[l];
            for (size k = 0; k < chain->stride[l]; k++)
                slope[k] = value[k] > 0 ? slope[k] : 0;
            in[i] = slope, out[i] = l > 1 ? items[i]->pulled[l - 1] : items[i]->grad;
        }
        NAME(product)(n, in, chain->widths[l], chain->back[l], chain->widths[l - 1], out);
    }
    for (size i = 0; i < n; i++)
        for (size k = 0; k < chain->widths[0]; k++)
            items[i]->grad[k] -= items[i]->here.value[0][k];
}

static void NAME(lay_point)(const CHAIN *chain, POINT *point, Arena *arena) {
    for (size l = 0; l <= chain->depth; l++)
        point->value[l] = take(arena, chain->stride[l] * sizeof(REAL));
    point->slope = take(arena, chain->stride[chain->depth] * sizeof(REAL));
}

/* Rows as `product` wants them: those given where they are. */
static const REAL *NAME(padded)(Arena *arena, const REAL *rows, size count, size width) {
    size stride = NAME(pitch)(width);
    if (stride == width)
        return rows;
    REAL *room = take(arena, count * stride * sizeof(REAL));
    for (size r = 0; room && r < count; r++)
        memcpy(room + r * stride, rows + r * width, width * sizeof(REAL));
    return room;
}

/* The columns of `count` rows as rows. */
static const REAL *NAME(turned)(Arena *arena, const REAL *rows, size count, size width) {
    size stride = NAME(pitch)(count);
    REAL *room = take(arena, width * stride * sizeof(REAL));
    if (room)
        NAME(turn)(rows, width, count, width, room, stride);
    return room;
}

/* Everything in its place, in memory or only counted. */
static void NAME(lay)(CHAIN *chain, ITEM *items, size members, size cycle, uint8_t **masks, REAL **lam, Arena *arena) {
    size wide = chain->widths[0], real = sizeof(REAL);
    for (size l = 0; l <= chain->depth; l++)
        chain->stride[l] = NAME(pitch)(chain->widths[l]);
    for (size l = 1; l <= chain->depth; l++) {
        size in = chain->widths[l - 1], out = chain->widths[l];
        chain->forth[l] = NAME(turned)(arena, chain->weights[l - 1], out, in);
        chain->back[l] = NAME(padded)(arena, chain->weights[l - 1], out, in);
        chain->bias[l] = NAME(padded)(arena, chain->biases[l - 1], 1, out);
        masks[l - 1] = take(arena, members * out);
    }
    chain->bend = NAME(padded)(arena, chain->gram, chain->widths[chain->depth], chain->widths[chain->depth]);
    *lam = take(arena, members * wide * wide * real);
    for (ITEM *item = items; item < items + members; item++) {
        NAME(lay_point)(chain, &item->here, arena);
        NAME(lay_point)(chain, &item->there, arena);
        item->grad = take(arena, chain->stride[0] * real);
        item->last = take(arena, chain->stride[0] * real);
        item->step = take(arena, chain->stride[0] * real);
        item->steps = take(arena, cycle * chain->stride[0] * real);
        item->falls = take(arena, cycle * chain->stride[0] * real);
        item->weights = take(arena, cycle * real);
        item->shares = take(arena, cycle * real);
        item->factor = take(arena, wide * chain->stride[0] * real);
        item->offset = take(arena, chain->stride[chain->depth] * real);
        for (size l = 1; l <= chain->depth; l++)
            item->pulled[l] = take(arena, chain->stride[l] * real);
    }
}

/* What a call works in. */
#define FRAME NAME(Frame)
typedef struct {
    CHAIN chain;
    ITEM items[BLOCK];
    uint8_t *masks[LAYERS];
    REAL *lam;
    void *memory;
} FRAME;

#define GIVEN                                                                                                          \
    size depth, const size *widths, const REAL *const *weights, const REAL *const *biases, const REAL *gram,           \
        const REAL *level, const REAL *origin, const REAL *pitch
#define SAME depth, widths, weights, biases, gram, level, origin, pitch

/* 0 = done, and memory is to be freed. */
static int NAME(open)(FRAME *frame, size cycle, GIVEN) {
    Arena arena = {NULL, 0};
    if (depth < 1 || depth > LAYERS)
        return 1;
    frame->chain = (CHAIN){.depth = depth, .widths = widths, .weights = weights, .biases = biases,
                           .gram = gram, .level = level, .origin = origin, .pitch = pitch};
    NAME(lay)(&frame->chain, frame->items, BLOCK, cycle, frame->masks, &frame->lam, &arena);
    frame->memory = calloc(arena.used + 64, 1);
    if (!frame->memory)
        return 1;
    arena = (Arena){frame->memory, 64 - (size)((uintptr_t)frame->memory % 64)};
    NAME(lay)(&frame->chain, frame->items, BLOCK, cycle, frame->masks, &frame->lam, &arena);
    return 0;
}

/* The items of a block, those of a batch from `first` on, at their z. */
static void NAME(admit)(FRAME *frame, size first, size members, const REAL *z, ITEM **going) {
    size wide = frame->chain.widths[0], top = frame->chain.widths[frame->chain.depth];
    for (size i = 0; i < members; i++) {
        ITEM *item = going[i] = &frame->items[i];
        item->index = first + i, item->done = 0;
        item->level = frame->chain.level[item->index];
        item->origin = frame->chain.origin + item->index * top, item->pitch = frame->chain.pitch + item->index * top;
        memcpy(item->here.value[0], z + item->index * wide, wide * sizeof(REAL));
        memcpy(item->there.value[0], z + item->index * wide, wide * sizeof(REAL));
    }
}
