/* Lam = M'GM and its gradient for a ReLU chain, item by item, over active units alone; and the adjoint of a step by it.

   M_1 = K_1 W_0,  M_l = K_l W_{l-1} M_{l-1},  Lam = M_L' G M_L,  with one G for all items or for each a diagonal of its
   own. Only the rows of M_l that are active are kept, packed: n_l rows of D columns, padded to whole vectors. Where a
   gradient will be wanted, M_2 .. M_L and T = G M_L stay in memory of the caller (T = F M_L does not: it is made again);
   elsewhere half of T is enough. Every product has the form  out_i = sum_c a_i[off_c] x_c  with rows x_c in vectors and
   scalars a gathered by the offsets of the active units; a tile keeps several rows i in registers.
   Items go in groups, and the rows of a weight in chunks, so that a chunk serves a whole group from the cache.

   Vectors over active units, packed from each matrix for each item, were measured too: they need no row of D padded and
   fewer loads, but at 256 units and 16 latents packing took as long as that saved.

   ../kernel.py and ../compiled.py call it. */

#include "vectors.h"

#define CHUNK 128 /* rows of a weight */
#define GROUP 4 /* items */
#define WHOLE 24 /* rows: a multiple of every height of a tile */

const int curvae_vector_bytes = BYTES; /* kernel.py makes room for whole vectors */
const char *const curvae_instructions = INSTRUCTIONS;

typedef struct {
    size depth; /* L */
    const size *widths; /* D, H_1 .. H_L */
    const real *const *weights;
    const uint8_t *const *masks;
    const real *gram, *own; /* G, or the diagonal of each item's own (B, H_L); the other is NULL */
    size columns; /* D in whole vectors */
    real *kept; /* for each item b M_2 .. M_L, and T where G is shared, from row starts[b] on, or NULL */
    const int64_t *starts;
    size *ones, *strides; /* 0, 1, 2 ..  and  0, columns, 2 columns .. */
    real *values; /* what a tile of outer gives */
    real *turned[LAYERS + 1]; /* l = 2 .. L: W_{l-1}', rows of whole vectors; for a gradient */
} Chain;

/* What is kept of one item of a group; index l = 1 .. L. */
typedef struct {
    size count[LAYERS + 1];
    size *active[LAYERS + 1];
    size *start[LAYERS + 1]; /* where each chunk begins among the active units, so that tiles stay whole */
#ifdef __AVX512F__
    uint16_t *bits[LAYERS + 1]; /* the active units of each vector of columns */
#endif
    real *m[LAYERS + 1];
    real *t, *s, *upper, *lower, *turned;
} Item;

/* target_r[active_c] += values_r,c for the columns of vector number `from` and after; values begins with their first. */
static void spread(const Item *item, size l, size from, size rows, const real *values, size stride, real *const *target,
                   size width) {
#ifdef __AVX512F__
    for (size g = from; g * LANES < width; g++) {
        uint16_t mask = item->bits[l][g];
        for (size r = 0; r < rows; r++) {
            real *p = target[r] + g * LANES;
            const real *more = values + r * stride;
            if (sizeof(real) == 4)
                _mm512_mask_storeu_ps(
                    p, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, p), _mm512_maskz_expandloadu_ps(mask, more)));
            else
                _mm512_mask_storeu_pd(p, (__mmask8)mask,
                                      _mm512_add_pd(_mm512_maskz_loadu_pd((__mmask8)mask, p),
                                                    _mm512_maskz_expandloadu_pd((__mmask8)mask, more)));
        }
        values += __builtin_popcount(mask);
    }
#else
    const size *active = item->active[l];
    size first = 0, count = item->count[l];
    while (first < count && active[first] < from * LANES)
        first++;
    for (size r = 0; r < rows; r++)
        for (size c = first; c < count; c++)
            target[r][active[c]] += values[r * stride + c - first];
    (void)width;
#endif
}

/* Rows first .. last-1 of  target[active_l, active_k] += left turned,  left (n_l, D) and turned (D, n_k) packed;
   upper: only columns from the diagonal on are right afterwards, the others are anything finite. */
static void outer(const Chain *chain, const Item *item, size l, size k, size first, size last, const real *left,
                  real *target, int upper) {
    size width = chain->widths[k], stride = up(item->count[k], LANES);
    real *values = chain->values;
    const real *rows[8];
    real *into[8];
    if (!stride)
        return;
    for (size i = first, high; i < last; i += high) {
        size group = upper ? item->active[l][i] / LANES : 0, before = 0;
        if (upper)
            for (before = i; before > 0 && item->active[l][before - 1] >= group * LANES;)
                before--;
        size skip = before / LANES;
        high = height(last - i, stride / LANES - skip);
        for (size r = 0; r < high; r++) {
            rows[r] = left + (i + r) * chain->columns;
            into[r] = target + item->active[l][i + r] * width;
        }
        panels(high, stride / LANES - skip, rows, chain->ones, 0, chain->widths[0], item->turned + skip * LANES, stride,
               values + skip * LANES, stride);
        spread(item, k, group, high, values + before, stride, into, width);
    }
}

static void lay(const Chain *chain, Item *item, Arena *arena, int backward) {
    size widest = 0, columns = chain->columns, real = sizeof(real);
    for (size l = 1; l <= chain->depth; l++) {
        size width = chain->widths[l];
        widest = width > widest ? width : widest;
        item->active[l] = take(arena, (width + 1) * sizeof(size));
        item->start[l] = take(arena, (width / CHUNK + 3) * sizeof(size));
#ifdef __AVX512F__
        item->bits[l] = take(arena, (width / LANES + 2) * 2);
#endif
        if (l == 1 || !chain->kept)
            item->m[l] = take(arena, width * columns * real);
    }
    if (!chain->kept || chain->own)
        item->t = take(arena, widest * columns * real);
    item->s = take(arena, chain->widths[0] * columns * real);
    if (backward) {
        item->upper = take(arena, widest * columns * real);
        item->lower = take(arena, widest * columns * real);
        item->turned = take(arena, up(widest, LANES) * chain->widths[0] * real);
    }
}

/* Memory for the items of a group, to be freed; NULL: there is none. */
static void *room(Chain *chain, Item *items, int backward) {
    size widest = 0;
    for (size l = 0; l <= chain->depth; l++)
        widest = chain->widths[l] > widest ? chain->widths[l] : widest;
    Arena arena = {NULL, 64};
    for (int pass = 0; pass < 2; pass++) {
        for (size i = 0; i < GROUP; i++)
            lay(chain, &items[i], &arena, backward);
        chain->ones = take(&arena, widest * sizeof(size));
        chain->strides = take(&arena, widest * sizeof(size));
        chain->values = take(&arena, 8 * up(widest, LANES) * sizeof(real));
        for (size l = 2; backward && l <= chain->depth; l++)
            chain->turned[l] = take(&arena, chain->widths[l - 1] * up(chain->widths[l], LANES) * sizeof(real));
        if (!pass) {
            void *memory = malloc(arena.used + 64);
            if (!memory)
                return NULL;
            arena = (Arena){memory, 64 - (size)((uintptr_t)memory % 64)};
        }
    }
    memset(chain->values, 0, 8 * up(widest, LANES) * sizeof(real));
    for (size i = 0; i < widest; i++)
        chain->ones[i] = i, chain->strides[i] = i * chain->columns;
    for (size l = 2; backward && l <= chain->depth; l++)
        turn(chain->weights[l - 1], chain->widths[l - 1], chain->widths[l], chain->widths[l - 1], chain->turned[l],
             up(chain->widths[l], LANES));
    return arena.base;
}

/* The active units of item b, M_1, and where the others are kept. */
static void gather(const Chain *chain, Item *item, size b) {
    for (size l = 1; l <= chain->depth; l++) {
        size width = chain->widths[l], count = 0, *active = item->active[l];
        const uint8_t *mask = chain->masks[l - 1] + b * width;
        for (size h = 0; h < width;) {
            unsigned bits = 0;
            if (h % CHUNK == 0)
                item->start[l][h / CHUNK] = count / WHOLE * WHOLE;
            for (unsigned lane = 0; lane < LANES && h < width; lane++, h++) {
                unsigned on = mask[h] != 0;
                bits |= on << lane;
                active[count] = h;
                count += on;
            }
#ifdef __AVX512F__
            item->bits[l][(h - 1) / LANES] = (uint16_t)bits;
#endif
        }
        item->start[l][(width + CHUNK - 1) / CHUNK] = count;
        item->count[l] = count;
    }
    size wide = chain->widths[0], columns = chain->columns;
    if (chain->kept) {
        real *place = chain->kept + chain->starts[b] * columns;
        for (size l = 2; l <= chain->depth; l++) {
            item->m[l] = place;
            place += item->count[l] * columns;
        }
        item->t = chain->own ? item->t : place;
    }
    for (size i = 0; i < item->count[1]; i++) {
        const real *from = chain->weights[0] + item->active[1][i] * wide;
        real *row = item->m[1] + i * columns;
        size d = 0;
        for (; d + LANES <= wide; d += LANES)
            *(Vec *)(row + d) = *(const Vec *)(from + d);
        for (; d < columns; d++)
            row[d] = d < wide ? from[d] : 0;
    }
}

/* to = F from, F the item's own diagonal, for the rows of M_L. */
static void weight(const Chain *chain, const Item *item, size b, const real *from, real *to) {
    const real *own = chain->own + b * chain->widths[chain->depth];
    for (size i = 0; i < item->count[chain->depth]; i++)
        for (size c = 0; c < chain->columns; c++)
            to[i * chain->columns + c] = own[item->active[chain->depth][i]] * from[i * chain->columns + c];
}

#define EACH_CHUNK(width)                                                                                              \
    for (size chunk = 0; chunk * CHUNK < (width); chunk++)                                                             \
        for (Item *item = items; item < items + members; item++)
#define ROWS(l) item->start[l][chunk], item->start[l][chunk + 1]

/* Lam of items begin .. end-1, in its place in lam (B, D, D); for gram or own, kept and starts see the chain. Where
   nothing is kept only the upper triangle of gram is read. 0 = done. */
int curvae_precision(size depth, const size *widths, const real *const *weights, const uint8_t *const *masks,
                     const real *gram, const real *own, size begin, size end, real *lam, real *kept,
                     const int64_t *starts) {
    if (depth < 1 || depth > LAYERS)
        return 1;
    Chain chain = {.depth = depth, .widths = widths, .weights = weights, .masks = masks, .gram = gram,
                   .own = own, .columns = up(widths[0], LANES), .kept = kept, .starts = starts};
    Item items[GROUP];
    size wide = widths[0], columns = chain.columns, top = widths[depth];
    real share = kept || own ? (real)0.5 : 1;
    void *memory = room(&chain, items, 0);
    if (!memory)
        return 1;
    for (size b = begin; b < end; b += GROUP) {
        size members = end - b < GROUP ? end - b : GROUP;
        for (size i = 0; i < members; i++)
            gather(&chain, &items[i], b + i);
        for (size l = 2; l <= depth; l++)
            EACH_CHUNK (widths[l])
                sparse_product(weights[l - 1], item->active[l], widths[l - 1], ROWS(l), item->active[l - 1],
                               item->count[l - 1], item->m[l - 1], columns, item->m[l], 0);
        for (size i = 0; own && i < members; i++)
            weight(&chain, &items[i], b + i, items[i].m[depth], items[i].t);
        EACH_CHUNK (own ? 0 : top)
            sparse_product(gram, item->active[depth], top, ROWS(depth), item->active[depth], item->count[depth],
                           item->m[depth], columns, item->t, !kept);
        for (size i = 0; i < members; i++) {
            real *s = items[i].s, *out = lam + (b + i) * wide * wide;
            sparse_product(items[i].m[depth], NULL, 1, 0, wide, chain.strides, items[i].count[depth], items[i].t,
                           columns, s, 0);
            for (size r = 0; r < wide; r++)
                for (size c = 0; c < wide; c++)
                    out[r * wide + c] = share * (s[r * columns + c] + s[c * columns + r]);
        }
    }
    free(memory);
    return 0;
}

static void turn_part(const Chain *chain, Item *item, size l) {
    size count = item->count[l];
    turn(item->m[l], chain->columns, count, chain->widths[0], item->turned, up(count, LANES));
}

/* m is symmetric: what is below its diagonal comes from above, block by block as rows are far apart. */
static void mirror(real *m, size width) {
    for (size top = 0; top < width; top += LANES)
        for (size left = 0; left <= top; left += LANES)
            for (size r = top; r < width && r < top + LANES; r++)
                for (size c = left; c < r && c < left + LANES; c++)
                    m[r * width + c] = m[c * width + r];
}

/* Adds to dweights and dgram, 0 at first, what items begin .. end-1 give for the adjoint (B, D, D) of Lam, with what was
   kept; dgram is that of `own` where that is given. 0 = done. */
int curvae_precision_backward(size depth, const size *widths, const real *const *weights, const uint8_t *const *masks,
                              const real *own, size begin, size end, const real *adjoint, real *kept,
                              const int64_t *starts, real *const *dweights, real *dgram) {
    if (depth < 1 || depth > LAYERS)
        return 1;
    Chain chain = {.depth = depth, .widths = widths, .weights = weights, .masks = masks, .own = own,
                   .columns = up(widths[0], LANES), .kept = kept, .starts = starts};
    Item items[GROUP];
    size wide = widths[0], columns = chain.columns, top = widths[depth];
    void *memory = room(&chain, items, 1);
    if (!memory)
        return 1;
    for (size b = begin; b < end; b += GROUP) {
        size members = end - b < GROUP ? end - b : GROUP;
        for (size i = 0; i < members; i++) { /* upper = dM = T (A + A'),  lower = M (A + A') / 2 */
            Item *item = &items[i];
            const real *a = adjoint + (b + i) * wide * wide;
            gather(&chain, item, b + i);
            for (size r = 0; r < wide; r++)
                for (size c = 0; c < columns; c++)
                    item->s[r * columns + c] = c < wide ? a[r * wide + c] + a[c * wide + r] : 0;
            const real *from = own ? item->m[depth] : item->t;
            sparse_product(from, NULL, columns, 0, item->count[depth], chain.ones, wide, item->s, columns, item->upper,
                           0);
            if (own) { /* of M (A + A')/2 M' the diagonal, and then the weights in upper */
                real *diagonal = dgram + (b + i) * top;
                for (size r = 0; r < item->count[depth]; r++)
                    diagonal[item->active[depth][r]] += dot(from + r * columns, item->upper + r * columns, columns) / 2;
                weight(&chain, item, b + i, item->upper, item->upper);
                continue;
            }
            for (size k = 0; k < wide * columns; k++)
                item->s[k] *= (real)0.5;
            sparse_product(item->m[depth], NULL, columns, 0, item->count[depth], chain.ones, wide, item->s, columns,
                           item->lower, 0);
            turn_part(&chain, item, depth);
        }
        EACH_CHUNK (own ? 0 : top) /* dG += M (A + A')/2 M' */
            outer(&chain, item, depth, depth, ROWS(depth), item->lower, dgram, 1);
        for (size l = depth; l > 1; l--) { /* dW += dM_l M_{l-1}',  dM_{l-1} = W' dM_l */
            for (size i = 0; i < members; i++)
                turn_part(&chain, &items[i], l - 1);
            EACH_CHUNK (widths[l])
                outer(&chain, item, l, l - 1, ROWS(l), item->upper, dweights[l - 1], 0);
            EACH_CHUNK (widths[l - 1])
                sparse_product(chain.turned[l], item->active[l - 1], up(widths[l], LANES), ROWS(l - 1), item->active[l],
                               item->count[l], item->upper, columns, item->lower, 0);
            for (size i = 0; i < members; i++) {
                real *done = items[i].upper;
                items[i].upper = items[i].lower;
                items[i].lower = done;
            }
        }
        for (size i = 0; i < members; i++)
            for (size r = 0; r < items[i].count[1]; r++) {
                real *row = dweights[0] + items[i].active[1][r] * wide, *d = items[i].upper + r * columns;
                for (size c = 0; c < wide; c++)
                    row[c] += d[c];
            }
    }
    if (!own)
        mirror(dgram, top);
    free(memory);
    return 0;
}

/* masks (L times B, H_l) say which units are on where values are what the layers give; the rows of M_2 .. M_L and G M_L
   that belong to item b begin at starts[b], and starts[items] is how many there are. 0 = done. */
int curvae_survey(size depth, const size *widths, const real *const *values, size items, uint8_t *const *masks,
                  int64_t *starts) {
    for (size b = starts[0] = 0; b < items; b++) {
        starts[b + 1] = starts[b];
        for (size l = 1; l <= depth; l++) {
            const real *value = values[l - 1] + b * widths[l];
            uint8_t *mask = masks[l - 1] + b * widths[l];
            size count = 0;
            for (size k = 0; k < widths[l]; k++)
                count += mask[k] = value[k] > 0;
            starts[b + 1] += count * ((l > 1) + (l == depth));
        }
    }
    return 0;
}

/* m = L'^-1 m, L the lower factor */
static void lift(const real *lower, size wide, real *m, size stride, real *row) {
    for (size r = wide; r-- > 0;) {
        real scale = 1 / lower[r * wide + r];
        combine(lower + r, wide, r + 1, wide, m, stride, row);
        for (size c = 0; c < stride; c++)
            m[r * stride + c] = (m[r * stride + c] - row[c]) * scale;
    }
}

/* x = (L L')^-1 x */
static void solve_lower(const real *lower, size wide, real *x) {
    for (size r = 0; r < wide; r++)
        x[r] = (x[r] - dot(lower + r * wide, x, r)) / lower[r * wide + r];
    for (size r = wide; r-- > 0;) {
        x[r] /= lower[r * wide + r];
        for (size k = 0; k < r; k++)
            x[k] -= lower[r * wide + k] * x[r];
    }
}

/* For the adjoints dmean (B, D) of the full step and dfactor (B, D, D) of the lower factor L, items begin .. end-1:
   dgrad = precision^-1 dmean, that of the gradient, and an adjoint of the precision, -dgrad step' + L'^-1 P L^-1 with
   P the lower part of L'dfactor, its diagonal halved. 0 = done. */
int curvae_last_backward(size wide, size begin, size end, const real *factor, const real *step, const real *dmean,
                         const real *dfactor, real *dgrad, real *adjoint) {
    size stride = up(wide, LANES), square = wide * wide;
    real *padded = calloc(2 * wide * stride + stride, sizeof(real)), *p, *row;
    if (!padded)
        return 1;
    p = padded + wide * stride, row = p + wide * stride;
    for (size b = begin; b < end; b++) {
        const real *lower = factor + b * square, *d = dfactor + b * square;
        real *v = memcpy(dgrad + b * wide, dmean + b * wide, wide * sizeof(real)), *out = adjoint + b * square;
        copy(padded, stride, d, wide);
        for (size r = 0; r < wide; r++) {
            combine(lower + r, wide, r, wide, padded, stride, p + r * stride);
            p[r * stride + r] /= 2;
            memset(p + r * stride + r + 1, 0, (stride - r - 1) * sizeof(real));
        }
        lift(lower, wide, p, stride, row);
        for (size r = 0; r < wide; r++)
            for (size c = 0; c < wide; c++)
                padded[c * stride + r] = p[r * stride + c];
        lift(lower, wide, padded, stride, row);
        solve_lower(lower, wide, v);
        for (size r = 0; r < wide; r++)
            for (size c = 0; c < wide; c++)
                out[r * wide + c] = padded[r * stride + c] - v[r] * step[b * wide + c];
    }
    free(padded);
    return 0;
}
