/* The mode of log p(x, z) for a ReLU chain, a log-likelihood quadratic in its last layer and a standard normal prior:
   Newton steps, each followed by quasi-Newton steps, and one shorter step where a full one does not climb; and the last
   of the Newton steps, the one that is differentiated.

   What solvers.py, bfgs.py, search.py, gram.py and last.py say in torch, without a call between two products: small
   networks spend more time on calls than on products. The items of a block step together, so that one pass over a
   weight serves many of them; an item that is done is left out. Every product has the form  out_i = sum_c a_i[c] w_c
   with rows w_c of a weight, padded where they need it.

   ../compiled.py calls it. */

#include "vectors.h"

#define BLOCK 48 /* items: a multiple of every height of a tile */

/* What all items share; index l = 1 .. L is a layer, strides are widths in whole vectors. */
typedef struct {
    size depth;
    const size *widths; /* D, H_1 .. H_L */
    size stride[LAYERS + 1]; /* of rows so wide */
    const real *const *weights, *const *biases, *gram, *level, *origin, *slope0; /* as given */
    const real *forth[LAYERS + 1], *back[LAYERS + 1], *bias[LAYERS + 1], *information; /* W_l', W_l, b_l and G, padded */
} Chain;

/* See precision.c. */
int curvae_precision(size depth, const size *widths, const real *const *weights, const uint8_t *const *masks,
                     const real *gram, const real *own, size begin, size end, real *lam, real *kept,
                     const int64_t *starts);

typedef struct {
    real *value[LAYERS + 1]; /* z, then what the layers give */
    real *slope; /* of log p(x | h) in the last of them */
    real log_joint;
} Point;

typedef struct {
    Point here, there;
    real *grad, *last, *step, *factor, *offset; /* last: the gradient before, or where a step was tried in vain */
    real *pulled[LAYERS + 1]; /* the slope, back through the layers after l */
    real *steps, *falls, *weights, *shares; /* of BFGS, one for each pair */
    const real *origin, *slope0;
    real level, gain, length;
    size index, pairs;
    int moved, moves, done; /* since the factor was made, in the last step, for good */
} Item;

/* here for there */
static void exchange(Item *item) {
    Point old = item->here;
    item->here = item->there, item->there = old;
}

#define LISTS                                                                                                          \
    const real *in[BLOCK + TALL];                                                                                      \
    real *out[BLOCK + TALL]

/* The log joint at there, where the layers' values are known, and its slope in the last of them. */
static void weigh(const Chain *chain, Item *const *items, size n) {
    LISTS;
    size top = chain->depth, width = chain->widths[top];
    for (size i = 0; i < n; i++) {
        for (size k = 0; k < width; k++)
            items[i]->offset[k] = items[i]->there.value[top][k] - items[i]->origin[k];
        in[i] = items[i]->offset, out[i] = items[i]->there.slope;
    }
    dense_product(n, in, width, chain->information, width, out);
    for (size i = 0; i < n; i++) {
        const real *slope0 = items[i]->slope0, *z = items[i]->there.value[0];
        for (size k = 0; k < width; k++)
            out[i][k] = slope0[k] - out[i][k];
        real fit = dot(in[i], slope0, width) + dot(in[i], out[i], width);
        items[i]->there.log_joint = items[i]->level + (fit - dot(z, z, chain->widths[0])) / 2;
    }
}

/* The same at there.z. */
static void look(const Chain *chain, Item *const *items, size n) {
    LISTS;
    if (!n)
        return;
    for (size l = 1; l <= chain->depth; l++) {
        for (size i = 0; i < n; i++)
            in[i] = items[i]->there.value[l - 1], out[i] = items[i]->there.value[l];
        dense_product(n, in, chain->widths[l - 1], chain->forth[l], chain->widths[l], out);
        for (size i = 0; i < n; i++)
            for (size k = 0; k < chain->stride[l]; k++) {
                real value = out[i][k] + chain->bias[l][k];
                out[i][k] = value < 0 ? 0 : value;
            }
    }
    weigh(chain, items, n);
}

/* The gradient of the log joint in z, here. */
static void gradient(const Chain *chain, Item *const *items, size n) {
    LISTS;
    size top = chain->depth;
    for (size i = 0; i < n; i++) {
        real *last = items[i]->last;
        items[i]->last = items[i]->grad, items[i]->grad = last;
        memcpy(items[i]->pulled[top], items[i]->here.slope, chain->stride[top] * sizeof(real));
    }
    for (size l = top; l >= 1; l--) {
        for (size i = 0; i < n; i++) {
            real *slope = items[i]->pulled[l], *value = items[i]->here.value[l];
            for (size k = 0; k < chain->stride[l]; k++)
                slope[k] = value[k] > 0 ? slope[k] : 0;
            in[i] = slope, out[i] = l > 1 ? items[i]->pulled[l - 1] : items[i]->grad;
        }
        dense_product(n, in, chain->widths[l], chain->back[l], chain->widths[l - 1], out);
    }
    for (size i = 0; i < n; i++)
        for (size k = 0; k < chain->widths[0]; k++)
            items[i]->grad[k] -= items[i]->here.value[0][k];
}

static void lay_point(const Chain *chain, Point *point, Arena *arena) {
    for (size l = 0; l <= chain->depth; l++)
        point->value[l] = take(arena, chain->stride[l] * sizeof(real));
    point->slope = take(arena, chain->stride[chain->depth] * sizeof(real));
}

/* Rows as `dense_product` wants them: those given where they are. */
static const real *padded(Arena *arena, const real *rows, size count, size width) {
    size stride = row_length(width);
    if (stride == width)
        return rows;
    real *room = take(arena, count * stride * sizeof(real));
    for (size r = 0; room && r < count; r++)
        memcpy(room + r * stride, rows + r * width, width * sizeof(real));
    return room;
}

/* The columns of `count` rows as rows. */
static const real *turned(Arena *arena, const real *rows, size count, size width) {
    size stride = row_length(count);
    real *room = take(arena, width * stride * sizeof(real));
    if (room)
        turn(rows, width, count, width, room, stride);
    return room;
}

/* Everything in its place, in memory or only counted. */
static void lay(Chain *chain, Item *items, size members, size cycle, uint8_t **masks, real **lam, Arena *arena) {
    size wide = chain->widths[0], real = sizeof(real);
    for (size l = 0; l <= chain->depth; l++)
        chain->stride[l] = row_length(chain->widths[l]);
    for (size l = 1; l <= chain->depth; l++) {
        size in = chain->widths[l - 1], out = chain->widths[l];
        chain->forth[l] = turned(arena, chain->weights[l - 1], out, in);
        chain->back[l] = padded(arena, chain->weights[l - 1], out, in);
        chain->bias[l] = padded(arena, chain->biases[l - 1], 1, out);
        masks[l - 1] = take(arena, members * out);
    }
    chain->information = padded(arena, chain->gram, chain->widths[chain->depth], chain->widths[chain->depth]);
    *lam = take(arena, members * wide * wide * real);
    for (Item *item = items; item < items + members; item++) {
        lay_point(chain, &item->here, arena);
        lay_point(chain, &item->there, arena);
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
typedef struct {
    Chain chain;
    Item items[BLOCK];
    uint8_t *masks[LAYERS];
    real *lam;
    void *memory;
} Frame;

#define GIVEN                                                                                                          \
    size depth, const size *widths, const real *const *weights, const real *const *biases, const real *gram,           \
        const real *level, const real *origin, const real *slope0
#define SAME depth, widths, weights, biases, gram, level, origin, slope0

/* 0 = done, and memory is to be freed. */
static int prepare(Frame *frame, size cycle, GIVEN) {
    Arena arena = {NULL, 0};
    if (depth < 1 || depth > LAYERS)
        return 1;
    frame->chain = (Chain){.depth = depth, .widths = widths, .weights = weights, .biases = biases,
                           .gram = gram, .level = level, .origin = origin, .slope0 = slope0};
    lay(&frame->chain, frame->items, BLOCK, cycle, frame->masks, &frame->lam, &arena);
    frame->memory = calloc(arena.used + 64, 1);
    if (!frame->memory)
        return 1;
    arena = (Arena){frame->memory, 64 - (size)((uintptr_t)frame->memory % 64)};
    lay(&frame->chain, frame->items, BLOCK, cycle, frame->masks, &frame->lam, &arena);
    return 0;
}

/* The items of a block, those of a batch from `first` on, with their z there. */
static void admit(Frame *frame, size first, size members, const real *z, Item **going) {
    size wide = frame->chain.widths[0], top = frame->chain.widths[frame->chain.depth];
    for (size i = 0; i < members; i++) {
        Item *item = going[i] = &frame->items[i];
        item->index = first + i, item->done = 0;
        item->level = frame->chain.level[item->index];
        item->origin = frame->chain.origin + item->index * top, item->slope0 = frame->chain.slope0 + item->index * top;
        memcpy(item->there.value[0], z + item->index * wide, wide * sizeof(real));
    }
}

static void aim(const Chain *chain, Item *item, real length) {
    item->length = length;
    for (size k = 0; k < chain->widths[0]; k++)
        item->there.value[0][k] = item->here.value[0][k] + length * item->step[k];
}

/* The full step, a shorter one where that does not climb, or none: search.py's Backtracking. */
static void advance(const Chain *chain, Item *const *items, size n, const real *rule) {
    real shortest = rule[0], worth = rule[1], sufficient = rule[2];
    Item *tried[BLOCK];
    size left = n;
    memcpy(tried, items, n * sizeof(*tried));
    for (size i = 0; i < n; i++) {
        aim(chain, items[i], 1);
        items[i]->moves = 0;
    }
    for (int again = 0; again < 2; again++) {
        size trials = left;
        look(chain, tried, trials);
        left = 0;
        for (size i = 0; i < trials; i++) {
            Item *item = tried[i];
            real rise = item->there.log_joint - item->here.log_joint, gain = item->gain;
            if (rise >= sufficient * item->length * gain) {
                exchange(item);
                item->moved = item->moves = 1;
            } else if (!again && !(gain / 2 <= worth)) {
                real length = gain / 2 / (gain - rise);
                aim(chain, item, !(length >= shortest) ? shortest : length > 0.5 ? (real)0.5 : length);
                tried[left++] = item;
            }
        }
    }
}

/* The factor U of Lam = U'U here, Lam the likelihood's part and the identity. 0 = done. */
static int factorize(const Chain *chain, Item *const *items, size n, uint8_t *const *masks, real *lam) {
    size wide = chain->widths[0], stride = chain->stride[0];
    for (size l = 1; l <= chain->depth; l++)
        for (size i = 0; i < n; i++)
            for (size k = 0; k < chain->widths[l]; k++)
                masks[l - 1][i * chain->widths[l] + k] = items[i]->here.value[l][k] > 0;
    if (curvae_precision(chain->depth, chain->widths, chain->weights, (const uint8_t *const *)masks, chain->gram, NULL,
                         0, n, lam, NULL, NULL))
        return 1;
    for (size i = 0; i < n; i++) {
        Item *item = items[i];
        copy(item->factor, stride, lam + i * wide * wide, wide);
        for (size j = 0; j < wide; j++)
            item->factor[j * stride + j] += 1;
        if (cholesky(item->factor, wide, stride, item->step))
            return 1;
    }
    return 0;
}

/* What the step just tried tells of the curvature; whether anything. */
static int learn(const Chain *chain, Item *item, real caution) {
    size wide = chain->widths[0], stride = chain->stride[0];
    real *s = item->steps + item->pairs * stride, *y = item->falls + item->pairs * stride;
    for (size k = 0; k < wide; k++)
        s[k] = item->length * item->step[k], y[k] = item->last[k] - item->grad[k];
    real curvature = dot(s, y, wide);
    if (!(curvature > caution * (item->length * item->length * item->gain)) || !isfinite(curvature))
        return 0;
    item->weights[item->pairs++] = 1 / curvature;
    return 1;
}

/* The gradient where the last step has led, and what it tells; of a step tried in vain that of its end, seen from here.
   Left are the items that can still move: one that learns nothing goes back to the bare factor, and waits for the next
   where that leads nowhere. */
static size review(const Chain *chain, Item **items, size n, real caution) {
    size left = 0;
    for (size i = 0; i < n; i++)
        if (!items[i]->moves)
            exchange(items[i]);
    gradient(chain, items, n);
    for (size i = 0; i < n; i++) {
        Item *item = items[i];
        size known = item->pairs;
        int learned = learn(chain, item, caution);
        if (!item->moves) {
            real *beyond = item->grad;
            item->grad = item->last, item->last = beyond;
            exchange(item);
            item->pairs = learned ? item->pairs : 0;
        }
        if (item->moves || learned || known)
            items[left++] = item;
    }
    return left;
}

/* step = B^-1 grad, B = Lam corrected by the pairs */
static void solve(const Chain *chain, Item *item) {
    size wide = chain->widths[0], stride = chain->stride[0];
    real *x = memcpy(item->step, item->grad, wide * sizeof(real)), *share = item->shares;
    for (size p = item->pairs; p-- > 0;) {
        share[p] = item->weights[p] * dot(item->steps + p * stride, x, wide);
        for (size k = 0; k < wide; k++)
            x[k] -= share[p] * item->falls[p * stride + k];
    }
    substitute(item->factor, wide, stride, x);
    for (size p = 0; p < item->pairs; p++) {
        real rest = share[p] - item->weights[p] * dot(item->falls + p * stride, x, wide);
        for (size k = 0; k < wide; k++)
            x[k] += rest * item->steps[p * stride + k];
    }
}

/* Items begin .. end-1 from z to where up to `visits` steps lead, z (B, D) in place; every `cycle` steps the factor is
   made anew. An item is done when a step promises tolerance nats at most, or when no step from a factor moved it.
   values (L times B, H_l) are what the layers give at the end, log_joint and grad_norm (visits, B) what was seen before
   each step, the last of it repeated for what is done. level (B), origin and slope0 (B, H_L) and gram say log p(x | h);
   rule is {shortest, worth, sufficient, tolerance, caution}. 0 = done. */
int curvae_search(GIVEN, size begin, size end, const real *rule, size batch, size visits, size cycle, real *z,
                  real *const *values, real *log_joint, real *grad_norm) {
    Frame frame;
    Item *items = frame.items, *going[BLOCK];
    size wide = widths[0];
    real tolerance = rule[3], caution = rule[4];
    if (prepare(&frame, cycle, SAME))
        return 1;
    int failed = 0;
    for (size first = begin; first < end && !failed; first += BLOCK) {
        size members = end - first < BLOCK ? end - first : BLOCK, n = members;
        admit(&frame, first, members, z, going);
        look(&frame.chain, going, n);
        for (size i = 0; i < members; i++)
            exchange(&items[i]);
        for (size t = 0; t < visits && !failed; t++) {
            int fresh = t % cycle == 0;
            for (size i = 0; t && i < members; i++) {
                size at = t * batch + items[i].index;
                log_joint[at] = log_joint[at - batch], grad_norm[at] = grad_norm[at - batch];
            }
            if (fresh) {
                for (size i = n = 0; i < members; i++)
                    if (!items[i].done && (!t || items[i].moved))
                        going[n++] = &items[i];
                gradient(&frame.chain, going, n);
                failed = n && factorize(&frame.chain, going, n, frame.masks, frame.lam);
                for (size i = 0; i < n; i++)
                    going[i]->pairs = going[i]->moved = 0;
            } else
                n = review(&frame.chain, going, n, caution);
            for (size i = 0; i < n; i++) {
                Item *item = going[i];
                solve(&frame.chain, item);
                item->gain = dot(item->grad, item->step, wide);
                log_joint[t * batch + item->index] = item->here.log_joint;
                grad_norm[t * batch + item->index] = (real)sqrt(dot(item->grad, item->grad, wide));
            }
            advance(&frame.chain, going, n, rule);
            size trying = n;
            n = 0;
            for (size i = 0; i < trying; i++) {
                Item *item = going[i];
                item->done = !(item->gain / 2 > tolerance);
                if (!item->done)
                    going[n++] = item;
            }
        }
        for (size i = 0; i < members; i++) {
            memcpy(z + items[i].index * wide, items[i].here.value[0], wide * sizeof(real));
            for (size l = 1; l <= depth; l++)
                memcpy(values[l - 1] + items[i].index * widths[l], items[i].here.value[l], widths[l] * sizeof(real));
        }
    }
    free(frame.memory);
    return failed;
}

static void note(const Item *item, size wide, real *log_joint, real *grad_norm) {
    log_joint[item->index] = item->here.log_joint;
    grad_norm[item->index] = (real)sqrt(dot(item->grad, item->grad, wide));
}

/* Items begin .. end-1 of `batch`, from z, where values (L times B, H_l) are what the layers give; masks and starts are
   those of curvae_survey, kept is as for curvae_precision. precision (B, D, D) is Lam, the prior's part included,
   factor its lower one, step = precision^-1 grad. Where that leads by the rule {shortest, worth, sufficient} is mean,
   length (B) says how much of it, left (B) the nats that a further step promises. pulled (L times B, H_l) are the slopes
   at z back through the layers after l; log_joint and grad_norm (2, B) are those at z and at the mean. 0 = done. */
int curvae_last(GIVEN, size begin, size end, const real *rule, size batch, const real *z, const real *const *values,
                const uint8_t *const *masks, real *kept, const int64_t *starts, real *precision, real *factor,
                real *step, real *mean, real *const *pulled, real *log_joint, real *grad_norm, real *left,
                real *length) {
    Frame frame;
    Chain *chain = &frame.chain;
    Item *going[BLOCK];
    size wide = widths[0], square = wide * wide, bytes = wide * sizeof(real), stride;
    if (prepare(&frame, 0, SAME))
        return 1;
    int failed = curvae_precision(depth, widths, weights, masks, gram, NULL, begin, end, precision, kept, starts);
    stride = chain->stride[0];
    for (size first = begin; first < end && !failed; first += BLOCK) {
        size members = end - first < BLOCK ? end - first : BLOCK;
        admit(&frame, first, members, z, going);
        for (size i = 0; i < members; i++)
            for (size l = 1; l <= depth; l++)
                memcpy(going[i]->there.value[l], values[l - 1] + (first + i) * widths[l], widths[l] * sizeof(real));
        weigh(chain, going, members);
        for (size i = 0; i < members; i++)
            exchange(going[i]);
        gradient(chain, going, members);
        for (size i = 0; i < members && !failed; i++) {
            Item *item = going[i];
            real *matrix = precision + item->index * square, *lower = factor + item->index * square, *u = item->factor;
            for (size j = 0; j < wide; j++)
                matrix[j * wide + j] += 1;
            copy(u, stride, matrix, wide);
            failed = cholesky(u, wide, stride, item->step);
            for (size r = 0; r < wide; r++)
                for (size c = 0; c < wide; c++)
                    lower[r * wide + c] = c > r ? 0 : u[c * stride + r];
            for (size l = 1; l <= depth; l++)
                memcpy(pulled[l - 1] + item->index * widths[l], item->pulled[l], widths[l] * sizeof(real));
            substitute(u, wide, stride, memcpy(item->step, item->grad, bytes));
            memcpy(step + item->index * wide, item->step, bytes);
            item->gain = dot(item->grad, item->step, wide);
            note(item, wide, log_joint, grad_norm);
        }
        advance(chain, going, members, rule);
        gradient(chain, going, members);
        for (size i = 0; i < members; i++) {
            Item *item = going[i];
            memcpy(mean + item->index * wide, item->here.value[0], bytes);
            note(item, wide, log_joint + batch, grad_norm + batch);
            substitute(item->factor, wide, stride, memcpy(item->step, item->grad, bytes));
            left[item->index] = dot(item->grad, item->step, wide) / 2;
            length[item->index] = item->moves ? item->length : 0;
        }
    }
    free(frame.memory);
    return failed;
}
