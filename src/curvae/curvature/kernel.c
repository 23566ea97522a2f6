/* Lam = M'GM and its gradient for a ReLU chain, item by item, over active units alone.

   M_1 = K_1 W_0,  M_l = K_l W_{l-1} M_{l-1},  Lam = M_L' G M_L.  Only the rows of M_l that are active are kept, packed:
   n_l rows of D columns, padded to whole vectors. Where a gradient will be wanted, M_2 .. M_L and T = G M_L stay in
   memory of the caller; elsewhere half of T is enough. Every product has the form  out_i = sum_c a_i[off_c] x_c  with rows
   x_c in vectors and scalars a gathered by the offsets of the active units; a tile keeps several rows i in registers.
   Items go in groups, and the rows of a weight in chunks, so that a chunk serves a whole group from the cache.

   Vectors over active units, packed from each matrix for each item, were measured too: they need no row of D padded and
   fewer loads, but at 256 units and 16 latents packing took as long as that saved.

   native.py compiles it, and kernel.py calls it; the part below "#else" is included once per number type. */

#ifndef REAL

#include "native.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

/* Vectors and rows of a tile: the registers hold 8 x 3 or 6 x 4 sums, or 8 x 1 or 4 x 2. */
#define WIDEST (MANY_REGISTERS ? 4 : 2)
#define TALLEST(vectors) (MANY_REGISTERS ? (vectors) > 3 ? 6 : 8 : (vectors) > 1 ? 4 : 8)

#define CHUNK 128 /* rows of a weight */
#define GROUP 4    /* items */
#define WHOLE 24   /* rows: a multiple of every height of a tile */

#define REAL float
#include "kernel.c"
#undef REAL
#define REAL double
#include "kernel.c"

#else

#define CHAIN NAME(Chain)
typedef struct {
    size depth;         /* L */
    const size *widths; /* D, H_1 .. H_L */
    const REAL *const *weights;
    const uint8_t *const *masks;
    const REAL *gram;
    size columns;       /* D in whole vectors */
    REAL *kept;         /* for each item b M_2 .. M_L and T, from row starts[b] on; NULL: nothing is kept */
    const int64_t *starts;
    size *ones, *strides; /* 0, 1, 2 ..  and  0, columns, 2 columns .. */
    REAL *values;         /* what a tile of outer gives */
} CHAIN;

/* What is kept of one item of a group; index l = 1 .. L. */
#define ITEM NAME(Item)
typedef struct {
    size count[LAYERS + 1];
    size *active[LAYERS + 1];
    size *start[LAYERS + 1]; /* where each chunk begins among the active units, so that tiles stay whole */
#ifdef __AVX512F__
    uint16_t *bits[LAYERS + 1]; /* the active units of each vector of columns */
#endif
    REAL *m[LAYERS + 1];
    REAL *t, *s, *upper, *lower, *turned;
} ITEM;

/* out_i = sum_c a_i[off_c] x_c over rows x vectors; the first terms, as many as halved, count half. */
INLINE void NAME(tile)(const int rows, const int vectors, const REAL *const *a, const size *off, size halved,
                       size count, const REAL *x, size stride, REAL *out, size ahead) {
    VEC sum[8][4];
    const REAL *p[8];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        p[i] = a[i];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (VEC){0};
    }
    for (size c = 0;; c++) {
        if (c == halved) {
            if (halved) {
#pragma GCC unroll 8
                for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++)
                        sum[i][v] *= (REAL)0.5;
            }
            for (; c < count; c++, x += stride) {
                size at = off[c];
                VEC row[4];
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    row[v] = *(const VEC *)(x + v * LANES);
#pragma GCC unroll 8
                for (int i = 0; i < rows; i++) {
                    VEC factor = p[i][at] - (VEC){0};
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++)
                        sum[i][v] += factor * row[v];
                }
            }
            break;
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i][v] += p[i][off[c]] * *(const VEC *)(x + v * LANES);
        x += stride;
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            *(VEC *)(out + i * ahead + v * LANES) = sum[i][v];
}

#define ARGUMENTS a, off, halved, count, x, stride, out, ahead
#define TILES(vectors)                                                                                                 \
    static __attribute__((noinline)) void NAME(tiles##vectors)(                                                        \
        size rows, const REAL *const *a, const size *off, size halved, size count, const REAL *x, size stride,         \
        REAL *out, size ahead) {                                                                                       \
        if (rows == 8 && TALLEST(vectors) == 8)                                                                        \
            NAME(tile)(8, vectors, ARGUMENTS);                                                                         \
        else if (rows == 6 && TALLEST(vectors) >= 6)                                                                   \
            NAME(tile)(6, vectors, ARGUMENTS);                                                                         \
        else if (rows == 4)                                                                                            \
            NAME(tile)(4, vectors, ARGUMENTS);                                                                         \
        else if (rows == 2)                                                                                            \
            NAME(tile)(2, vectors, ARGUMENTS);                                                                         \
        else                                                                                                           \
            NAME(tile)(1, vectors, ARGUMENTS);                                                                         \
    }
TILES(1)
TILES(2)
#if MANY_REGISTERS
TILES(3)
TILES(4)
#endif

/* One block of rows, as wide as x is: in panels of nearly equal width. */
static void NAME(panels)(size rows, size vectors, const REAL *const *a, const size *off, size halved, size count,
                         const REAL *x, size stride, REAL *out, size ahead) {
    size left = (vectors + WIDEST - 1) / WIDEST;
    for (size wide; vectors > 0; vectors -= wide, left--, x += wide * LANES, out += wide * LANES) {
        wide = (vectors + left - 1) / left;
        switch (wide) {
        case 1: NAME(tiles1)(rows, ARGUMENTS); break;
        case 2: NAME(tiles2)(rows, ARGUMENTS); break;
#if MANY_REGISTERS
        case 3: NAME(tiles3)(rows, ARGUMENTS); break;
        case 4: NAME(tiles4)(rows, ARGUMENTS); break;
#endif
        }
    }
}

static size NAME(height)(size left, size vectors) {
    size panels = (vectors + WIDEST - 1) / WIDEST, most = TALLEST((vectors + panels - 1) / panels);
    if (left >= most)
        return most;
    return left >= 6 && most > 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* Rows first .. last-1 of  out_i = sum_c a[at_i * pitch + off_c] x_c, all of length stride (at_i = i if at is 0).
   triangular: c from i on, the block on the diagonal by half, so that  M'out + (M'out)' = M'AM  for symmetric A. */
static void NAME(multiply)(const REAL *a, const size *at, size pitch, size first, size last, const size *off,
                           size count, const REAL *x, size stride, REAL *out, int triangular) {
    const REAL *rows[8];
    size vectors = stride / LANES;
    for (size i = first, high; i < last; i += high) {
        high = NAME(height)(last - i, vectors);
        for (size k = 0; k < high; k++)
            rows[k] = a + (at ? at[i + k] : i + k) * pitch;
        size from = triangular ? i : 0, halved = triangular ? high : 0;
        NAME(panels)(high, vectors, rows, off + from, halved, count - from, x + from * stride, stride,
                     out + i * stride, stride);
    }
}

/* target_r[active_c] += values_r,c for the columns of vector number `from` and after; values begins with their first. */
static void NAME(spread)(const ITEM *item, size l, size from, size rows, const REAL *values, size stride,
                         REAL *const *target, size width) {
#ifdef __AVX512F__
    for (size g = from; g * LANES < width; g++) {
        uint16_t mask = item->bits[l][g];
        for (size r = 0; r < rows; r++) {
            REAL *p = target[r] + g * LANES;
            const REAL *more = values + r * stride;
            if (sizeof(REAL) == 4)
                _mm512_mask_storeu_ps(p, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, p),
                                                             _mm512_maskz_expandloadu_ps(mask, more)));
            else
                _mm512_mask_storeu_pd(p, (__mmask8)mask, _mm512_add_pd(_mm512_maskz_loadu_pd((__mmask8)mask, p),
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
static void NAME(outer)(const CHAIN *chain, const ITEM *item, size l, size k, size first, size last, const REAL *left,
                        REAL *target, int upper) {
    size width = chain->widths[k], stride = up(item->count[k], LANES);
    REAL *values = chain->values;
    const REAL *rows[8];
    REAL *into[8];
    if (!stride)
        return;
    for (size i = first, high; i < last; i += high) {
        size group = upper ? item->active[l][i] / LANES : 0, before = 0;
        if (upper)
            for (before = i; before > 0 && item->active[l][before - 1] >= group * LANES;)
                before--;
        size skip = before / LANES;
        high = NAME(height)(last - i, stride / LANES - skip);
        for (size r = 0; r < high; r++) {
            rows[r] = left + (i + r) * chain->columns;
            into[r] = target + item->active[l][i + r] * width;
        }
        NAME(panels)(high, stride / LANES - skip, rows, chain->ones, 0, chain->widths[0], item->turned + skip * LANES,
                     stride, values + skip * LANES, stride);
        NAME(spread)(item, k, group, high, values + before, stride, into, width);
    }
}

/* turned = m' */
static void NAME(turn)(const CHAIN *chain, ITEM *item, size l) {
    size count = item->count[l], stride = up(count, LANES), columns = chain->columns, wide = chain->widths[0];
    const REAL *m = item->m[l];
    for (size i = 0; i < count; i += 16)
        for (size d = 0; d < wide; d++)
            for (size k = i; k < i + 16 && k < count; k++)
                item->turned[d * stride + k] = m[k * columns + d];
    for (size d = 0; d < wide; d++)
        for (size k = count; k < stride; k++)
            item->turned[d * stride + k] = 0;
}

static void NAME(lay)(const CHAIN *chain, ITEM *item, Arena *arena, int backward) {
    size widest = 0, columns = chain->columns, real = sizeof(REAL);
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
    if (!chain->kept)
        item->t = take(arena, widest * columns * real);
    item->s = take(arena, chain->widths[0] * columns * real);
    if (backward) {
        item->upper = take(arena, widest * columns * real);
        item->lower = take(arena, widest * columns * real);
        item->turned = take(arena, up(widest, LANES) * chain->widths[0] * real);
    }
}

/* Memory for the items of a group, to be freed; NULL: there is none. */
static void *NAME(room)(CHAIN *chain, ITEM *items, int backward) {
    size widest = 0;
    for (size l = 0; l <= chain->depth; l++)
        widest = chain->widths[l] > widest ? chain->widths[l] : widest;
    Arena arena = {NULL, 64};
    for (int pass = 0; pass < 2; pass++) {
        for (size i = 0; i < GROUP; i++)
            NAME(lay)(chain, &items[i], &arena, backward);
        chain->ones = take(&arena, widest * sizeof(size));
        chain->strides = take(&arena, widest * sizeof(size));
        chain->values = take(&arena, 8 * up(widest, LANES) * sizeof(REAL));
        if (!pass) {
            void *memory = malloc(arena.used + 64);
            if (!memory)
                return NULL;
            arena = (Arena){memory, 64 - (size)((uintptr_t)memory % 64)};
        }
    }
    memset(chain->values, 0, 8 * up(widest, LANES) * sizeof(REAL));
    for (size i = 0; i < widest; i++)
        chain->ones[i] = i, chain->strides[i] = i * chain->columns;
    return arena.base;
}

/* The active units of item b, M_1, and where the others are kept. */
static void NAME(gather)(const CHAIN *chain, ITEM *item, size b) {
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
        item->t = chain->kept + chain->starts[b] * columns;
        for (size l = 2; l <= chain->depth; l++) {
            item->m[l] = item->t;
            item->t += item->count[l] * columns;
        }
    }
    for (size i = 0; i < item->count[1]; i++) {
        const REAL *from = chain->weights[0] + item->active[1][i] * wide;
        REAL *row = item->m[1] + i * columns;
        size d = 0;
        for (; d + LANES <= wide; d += LANES)
            *(VEC *)(row + d) = *(const VEC *)(from + d);
        for (; d < columns; d++)
            row[d] = d < wide ? from[d] : 0;
    }
}

#define EACH_CHUNK(width)                                                                                              \
    for (size chunk = 0; chunk * CHUNK < (width); chunk++)                                                             \
        for (ITEM *item = items; item < items + members; item++)
#define ROWS(l) item->start[l][chunk], item->start[l][chunk + 1]

/* Lam of items begin .. end-1, in its place in lam (B, D, D); for kept and starts see the chain. 0 = done. */
int NAME(precision_kept)(size depth, const size *widths, const REAL *const *weights, const uint8_t *const *masks,
                         const REAL *gram, size begin, size end, REAL *lam, REAL *kept, const int64_t *starts) {
    if (depth < 1 || depth > LAYERS)
        return 1;
    CHAIN chain = {depth, widths, weights, masks, gram, up(widths[0], LANES), kept, starts, NULL, NULL, NULL};
    ITEM items[GROUP];
    size wide = widths[0], columns = chain.columns, top = widths[depth];
    REAL share = kept ? (REAL)0.5 : 1;
    void *memory = NAME(room)(&chain, items, 0);
    if (!memory)
        return 1;
    for (size b = begin; b < end; b += GROUP) {
        size members = end - b < GROUP ? end - b : GROUP;
        for (size i = 0; i < members; i++)
            NAME(gather)(&chain, &items[i], b + i);
        for (size l = 2; l <= depth; l++)
            EACH_CHUNK(widths[l])
                NAME(multiply)(weights[l - 1], item->active[l], widths[l - 1], ROWS(l), item->active[l - 1],
                               item->count[l - 1], item->m[l - 1], columns, item->m[l], 0);
        EACH_CHUNK(top)
            NAME(multiply)(gram, item->active[depth], top, ROWS(depth), item->active[depth], item->count[depth],
                           item->m[depth], columns, item->t, !kept);
        for (size i = 0; i < members; i++) {
            REAL *s = items[i].s, *out = lam + (b + i) * wide * wide;
            NAME(multiply)(items[i].m[depth], NULL, 1, 0, wide, chain.strides, items[i].count[depth], items[i].t, columns,
                           s, 0);
            for (size r = 0; r < wide; r++)
                for (size c = 0; c < wide; c++)
                    out[r * wide + c] = share * (s[r * columns + c] + s[c * columns + r]);
        }
    }
    free(memory);
    return 0;
}

/* The same, with nothing kept; of gram only the upper triangle is read. */
int NAME(precision)(size depth, const size *widths, const REAL *const *weights, const uint8_t *const *masks,
                    const REAL *gram, size begin, size end, REAL *lam) {
    return NAME(precision_kept)(depth, widths, weights, masks, gram, begin, end, lam, NULL, NULL);
}

/* Adds to dweights and dgram what items begin .. end-1 give for the adjoint (B, D, D) of Lam, with what was kept. Of dgram
   only the upper triangle is right afterwards. turned are W_1' .. W_{L-1}'. 0 = done. */
int NAME(precision_backward)(size depth, const size *widths, const REAL *const *weights, const uint8_t *const *masks,
                             const REAL *const *turned, size begin, size end, const REAL *adjoint, REAL *kept,
                             const int64_t *starts, REAL *const *dweights, REAL *dgram) {
    if (depth < 1 || depth > LAYERS)
        return 1;
    CHAIN chain = {depth, widths, weights, masks, NULL, up(widths[0], LANES), kept, starts, NULL, NULL, NULL};
    ITEM items[GROUP];
    size wide = widths[0], columns = chain.columns, top = widths[depth];
    void *memory = NAME(room)(&chain, items, 1);
    if (!memory)
        return 1;
    for (size b = begin; b < end; b += GROUP) {
        size members = end - b < GROUP ? end - b : GROUP;
        for (size i = 0; i < members; i++) { /* upper = dM = T (A + A'),  lower = M (A + A') / 2 */
            ITEM *item = &items[i];
            const REAL *a = adjoint + (b + i) * wide * wide;
            NAME(gather)(&chain, item, b + i);
            for (size r = 0; r < wide; r++)
                for (size c = 0; c < columns; c++)
                    item->s[r * columns + c] = c < wide ? a[r * wide + c] + a[c * wide + r] : 0;
            NAME(multiply)(item->t, NULL, columns, 0, item->count[depth], chain.ones, wide, item->s, columns, item->upper,
                           0);
            for (size k = 0; k < wide * columns; k++)
                item->s[k] *= (REAL)0.5;
            NAME(multiply)(item->m[depth], NULL, columns, 0, item->count[depth], chain.ones, wide, item->s, columns,
                           item->lower, 0);
            NAME(turn)(&chain, item, depth);
        }
        EACH_CHUNK(top) /* dG += M (A + A')/2 M' */
            NAME(outer)(&chain, item, depth, depth, ROWS(depth), item->lower, dgram, 1);
        for (size l = depth; l > 1; l--) { /* dW += dM_l M_{l-1}',  dM_{l-1} = W' dM_l */
            for (size i = 0; i < members; i++)
                NAME(turn)(&chain, &items[i], l - 1);
            EACH_CHUNK(widths[l])
                NAME(outer)(&chain, item, l, l - 1, ROWS(l), item->upper, dweights[l - 1], 0);
            EACH_CHUNK(widths[l - 1])
                NAME(multiply)(turned[l - 2], item->active[l - 1], widths[l], ROWS(l - 1), item->active[l],
                               item->count[l], item->upper, columns, item->lower, 0);
            for (size i = 0; i < members; i++) {
                REAL *done = items[i].upper;
                items[i].upper = items[i].lower;
                items[i].lower = done;
            }
        }
        for (size i = 0; i < members; i++)
            for (size r = 0; r < items[i].count[1]; r++) {
                REAL *row = dweights[0] + items[i].active[1][r] * wide, *d = items[i].upper + r * columns;
                for (size c = 0; c < wide; c++)
                    row[c] += d[c];
            }
    }
    free(memory);
    return 0;
}

#undef CHAIN
#undef ITEM
#undef ARGUMENTS
#undef TILES
#undef EACH_CHUNK
#undef ROWS

#endif
