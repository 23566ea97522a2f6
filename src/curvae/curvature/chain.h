/* A block of data in a ReLU chain: the log joint at their points, its gradient there, and the memory for both.

   Every product has the form  out_i = sum_c a_i[c] w_c  with rows w_c of a weight, padded to whole vectors.

   Included by search.c, once per number type. */

/* What all items share; index l = 1 .. L is a layer, strides are widths in whole vectors. */
#define CHAIN NAME(Chain)
typedef struct {
    size depth;
    const size *widths; /* D, H_1 .. H_L */
    size stride[LAYERS + 1];
    const REAL *const *weights, *gram, *level, *origin, *pitch; /* as given */
    REAL *forth[LAYERS + 1], *back[LAYERS + 1], *bias[LAYERS + 1], *bend; /* W_l', W_l, b_l and G, padded */
} CHAIN;

#define POINT NAME(Point)
typedef struct {
    REAL *value[LAYERS + 1]; /* z, then what the layers give */
    REAL *slope;             /* of log p(x | h) in the last of them */
    REAL log_joint;
} POINT;

#define ITEM NAME(Item)
typedef struct {
    POINT here, there;
    REAL *grad, *last, *step, *factor, *spare[2]; /* last: the gradient before */
    REAL *steps, *falls, *weights, *shares;        /* of BFGS, one for each pair */
    const REAL *origin, *pitch;
    REAL level, gain, length;
    size index, pairs;
    int moved, moves, done; /* since the factor was made, in the last step, for good */
} ITEM;

static REAL NAME(dot)(const REAL *a, const REAL *b, size count) {
    VEC sum = {0};
    REAL total = 0;
    size k = 0;
    for (; k + LANES <= count; k += LANES)
        sum += *(const VEC *)(a + k) * *(const VEC *)(b + k);
    for (size lane = 0; lane < LANES; lane++)
        total += sum[lane];
    for (; k < count; k++)
        total += a[k] * b[k];
    return total;
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

/* out_i = sum_c a_i[c] w_c for n rows i; the lists have room for a whole tile. */
static void NAME(product)(size n, const REAL **a, size count, const REAL *w, size stride, REAL **out) {
    for (size i = n; i % TALL; i++)
        a[i] = a[n - 1], out[i] = out[n - 1];
    for (size at = 0; at < stride;) {
        int wide = at + WIDE * LANES <= stride;
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

/* The log joint at there.z, and what its gradient needs. */
static void NAME(look)(const CHAIN *chain, ITEM *const *items, size n) {
    LISTS;
    if (!n)
        return;
    size top = chain->depth, width = chain->widths[top];
    for (size l = 1; l <= top; l++) {
        for (size i = 0; i < n; i++)
            in[i] = items[i]->there.value[l - 1], out[i] = items[i]->there.value[l];
        NAME(product)(n, in, chain->widths[l - 1], chain->forth[l], chain->stride[l], out);
        for (size i = 0; i < n; i++)
            for (size k = 0; k < chain->stride[l]; k++) {
                REAL value = out[i][k] + chain->bias[l][k];
                out[i][k] = value < 0 ? 0 : value;
            }
    }
    for (size i = 0; i < n; i++) {
        REAL *offset = items[i]->spare[0];
        for (size k = 0; k < width; k++)
            offset[k] = items[i]->there.value[top][k] - items[i]->origin[k];
        in[i] = offset, out[i] = items[i]->there.slope;
    }
    NAME(product)(n, in, width, chain->bend, chain->stride[top], out);
    for (size i = 0; i < n; i++) {
        const REAL *pitch = items[i]->pitch, *z = items[i]->there.value[0];
        for (size k = 0; k < width; k++)
            out[i][k] = pitch[k] - out[i][k];
        REAL fit = NAME(dot)(in[i], pitch, width) + NAME(dot)(in[i], out[i], width);
        items[i]->there.log_joint = items[i]->level + (fit - NAME(dot)(z, z, chain->widths[0])) / 2;
    }
}

/* The gradient of the log joint in z, here. */
static void NAME(gradient)(const CHAIN *chain, ITEM *const *items, size n) {
    LISTS;
    for (size i = 0; i < n; i++) {
        REAL *last = items[i]->last;
        items[i]->last = items[i]->grad, items[i]->grad = last;
        memcpy(items[i]->spare[0], items[i]->here.slope, chain->stride[chain->depth] * sizeof(REAL));
    }
    for (size l = chain->depth; l >= 1; l--) {
        for (size i = 0; i < n; i++) {
            REAL *slope = items[i]->spare[0], *value = items[i]->here.value[l];
            for (size k = 0; k < chain->stride[l]; k++)
                slope[k] = value[k] > 0 ? slope[k] : 0;
            items[i]->spare[0] = items[i]->spare[1], items[i]->spare[1] = slope;
            in[i] = slope, out[i] = l > 1 ? items[i]->spare[0] : items[i]->grad;
        }
        NAME(product)(n, in, chain->widths[l], chain->back[l], chain->stride[l - 1], out);
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

/* Everything in its place, in memory or only counted. */
static void NAME(lay)(CHAIN *chain, ITEM *items, size members, size cycle, uint8_t **masks, REAL **lam, Arena *arena) {
    size wide = chain->widths[0], widest = 0, real = sizeof(REAL);
    for (size l = 0; l <= chain->depth; l++) {
        chain->stride[l] = up(chain->widths[l], LANES);
        widest = chain->stride[l] > widest ? chain->stride[l] : widest;
    }
    for (size l = 1; l <= chain->depth; l++) {
        chain->forth[l] = take(arena, chain->widths[l - 1] * chain->stride[l] * real);
        chain->back[l] = take(arena, chain->widths[l] * chain->stride[l - 1] * real);
        chain->bias[l] = take(arena, chain->stride[l] * real);
        masks[l - 1] = take(arena, members * chain->widths[l]);
    }
    chain->bend = take(arena, chain->widths[chain->depth] * chain->stride[chain->depth] * real);
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
        item->factor = take(arena, wide * wide * real);
        item->spare[0] = take(arena, widest * real);
        item->spare[1] = take(arena, widest * real);
    }
}

static void NAME(pad)(const CHAIN *chain, const REAL *const *biases) {
    size top = chain->depth, last = chain->widths[top];
    for (size l = 1; l <= top; l++) {
        size in = chain->widths[l - 1], out = chain->widths[l];
        for (size o = 0; o < out; o++) {
            const REAL *row = chain->weights[l - 1] + o * in;
            memcpy(chain->back[l] + o * chain->stride[l - 1], row, in * sizeof(REAL));
            for (size i = 0; i < in; i++)
                chain->forth[l][i * chain->stride[l] + o] = row[i];
        }
        memcpy(chain->bias[l], biases[l - 1], out * sizeof(REAL));
    }
    for (size o = 0; o < last; o++)
        memcpy(chain->bend + o * chain->stride[top], chain->gram + o * last, last * sizeof(REAL));
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

/* 0 = done, and memory is to be freed. */
static int NAME(open)(FRAME *frame, size cycle, GIVEN) {
    Arena arena = {NULL, 0};
    if (depth < 1 || depth > LAYERS)
        return 1;
    frame->chain = (CHAIN){.depth = depth, .widths = widths, .weights = weights, .gram = gram};
    NAME(lay)(&frame->chain, frame->items, BLOCK, cycle, frame->masks, &frame->lam, &arena);
    frame->memory = calloc(arena.used + 64, 1);
    if (!frame->memory)
        return 1;
    arena = (Arena){frame->memory, 64 - (size)((uintptr_t)frame->memory % 64)};
    NAME(lay)(&frame->chain, frame->items, BLOCK, cycle, frame->masks, &frame->lam, &arena);
    NAME(pad)(&frame->chain, biases);
    frame->chain.level = level, frame->chain.origin = origin, frame->chain.pitch = pitch;
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
