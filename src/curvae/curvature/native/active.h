/* Data of a ReLU chain by their active units alone: what is kept of each, and products between such parts.

   Included by kernel.c, once per number type. */

#include "dot.h"

#define CHAIN NAME(Chain)
typedef struct {
    size depth;         /* L */
    const size *widths; /* D, H_1 .. H_L */
    const REAL *const *weights;
    const uint8_t *const *masks;
    const REAL *gram, *own; /* G, or the diagonal of each item's own (B, H_L); the other is NULL */
    size columns;           /* D in whole vectors */
    REAL *kept;             /* for each item b M_2 .. M_L, and T where G is shared, from row starts[b] on, or NULL */
    const int64_t *starts;
    size *ones, *strides;     /* 0, 1, 2 ..  and  0, columns, 2 columns .. */
    REAL *values;             /* what a tile of outer gives */
    REAL *turned[LAYERS + 1]; /* l = 2 .. L: W_{l-1}', rows of whole vectors; for a gradient */
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

/* Columns d .. d + LANES - 1 of rows i .. i + LANES - 1 of m to rows of turned, which begin at column i; 1 = done. */
INLINE int NAME(turn_tile)(const REAL *m, size columns, size rows, REAL *turned, size stride, size wide) {
#ifdef __AVX512F__
    if (sizeof(REAL) == 4) {
        __m512 row[16];
        __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            row[i] = i < rows ? _mm512_loadu_ps((const float *)m + i * columns) : _mm512_setzero_ps();
#pragma GCC unroll 4
        for (int step = 8; step; step /= 2) { /* blocks of step by step, swapped across the diagonal */
            __m512i apart = _mm512_set1_epi32(step);
            __mmask16 far = _mm512_test_epi32_mask(lane, apart);
            __m512i upper = _mm512_mask_add_epi32(lane, far, lane, _mm512_sub_epi32(_mm512_set1_epi32(16), apart));
            __m512i lower = _mm512_mask_add_epi32(_mm512_add_epi32(lane, apart), far, lane, _mm512_set1_epi32(16));
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                if (!(i & step)) {
                    __m512 one = row[i], other = row[i + step];
                    row[i] = _mm512_permutex2var_ps(one, upper, other);
                    row[i + step] = _mm512_permutex2var_ps(one, lower, other);
                }
        }
#pragma GCC unroll 16
        for (int d = 0; d < 16; d++)
            if (d < wide)
                _mm512_storeu_ps((float *)turned + d * stride, row[d]);
        return 1;
    }
#endif
    (void)m, (void)columns, (void)rows, (void)turned, (void)stride, (void)wide;
    return 0;
}

/* to = m' for `count` rows of m, `columns` apart and `wide` long; rows of `to` are `stride` apart, whole vectors. */
void NAME(turn)(const REAL *m, size columns, size count, size wide, REAL *to, size stride) {
    for (size i = 0; i < count; i += LANES)
        for (size first = 0; first < wide; first += LANES) {
            const REAL *from = m + i * columns + first;
            REAL *into = to + first * stride + i;
            if (first + LANES <= columns && NAME(turn_tile)(from, columns, count - i, into, stride, wide - first))
                continue;
            for (size d = 0; d < LANES && d < wide - first; d++)
                for (size k = 0; k < LANES; k++)
                    into[d * stride + k] = k < count - i ? from[k * columns + d] : 0;
        }
}
