/* Products of small matrices in vectors, for one type of numbers: -DREAL=float or -DREAL=double. */

#ifndef CURVAE_VECTORS_H
#define CURVAE_VECTORS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define INSTRUCTIONS "avx512"
#define BYTES 64 /* of a vector */
#elif defined(__AVX2__)
#define INSTRUCTIONS "avx2"
#define BYTES 32
#else
#define BYTES 16
#if defined(__SSE2__)
#define INSTRUCTIONS "sse2"
#elif defined(__ARM_NEON)
#define INSTRUCTIONS "neon"
#else
#define INSTRUCTIONS "generic"
#endif
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define MANY_REGISTERS 1
#else
#define MANY_REGISTERS 0
#endif

#define LAYERS 16 /* at most */
#define LANES ((size)(BYTES / sizeof(real)))
#define INLINE static inline __attribute__((always_inline))

typedef ptrdiff_t size;
typedef REAL real;
typedef real Vec __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));

static inline size up(size n, size unit) { return (n + unit - 1) / unit * unit; }

/* Memory handed out piece by piece, or only counted while base is 0. */
typedef struct {
    char *base;
    size used;
} Arena;

static inline void *take(Arena *arena, size bytes) {
    void *piece = arena->base ? arena->base + arena->used : NULL;
    arena->used += up(bytes, 64) + 64; /* the gap keeps equal rows of different buffers out of the same cache set */
    return piece;
}

/* a'b */
static inline real dot(const real *a, const real *b, size count) {
    Vec sum = {0};
    real total = 0;
    size k = 0;
    for (; k + LANES <= count; k += LANES)
        sum += *(const Vec *)(a + k) * *(const Vec *)(b + k);
    for (size lane = 0; lane < LANES; lane++)
        total += sum[lane];
    for (; k < count; k++)
        total += a[k] * b[k];
    return total;
}

/* Vectors and rows of a tile with gathered factors: the registers hold 8 x 3 or 6 x 4 sums, or 8 x 1 or 4 x 2. */
#define WIDEST (MANY_REGISTERS ? 4 : 2)
#define TALLEST(vectors) (MANY_REGISTERS ? (vectors) > 3 ? 6 : 8 : (vectors) > 1 ? 4 : 8)

/* out_i = sum_c a_i[off_c] x_c over rows x vectors; the first terms, as many as halved, count half. */
INLINE void sparse_tile(const int rows, const int vectors, const real *const *a, const size *off, size halved,
                        size count, const real *x, size stride, real *out, size ahead) {
    Vec sum[8][4];
    const real *p[8];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        p[i] = a[i];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (Vec){0};
    }
    for (size c = 0;; c++) {
        if (c == halved) {
            if (halved) {
#pragma GCC unroll 8
                for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++)
                        sum[i][v] *= (real)0.5;
            }
            for (; c < count; c++, x += stride) {
                size at = off[c];
                Vec row[4];
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    row[v] = *(const Vec *)(x + v * LANES);
#pragma GCC unroll 8
                for (int i = 0; i < rows; i++) {
                    Vec factor = p[i][at] - (Vec){0};
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
                sum[i][v] += p[i][off[c]] * *(const Vec *)(x + v * LANES);
        x += stride;
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            *(Vec *)(out + i * ahead + v * LANES) = sum[i][v];
}

#define ARGUMENTS a, off, halved, count, x, stride, out, ahead
#define TILES(vectors)                                                                                                 \
    static __attribute__((noinline)) void tiles##vectors(size rows, const real *const *a, const size *off,             \
                                                         size halved, size count, const real *x, size stride,          \
                                                         real *out, size ahead) {                                      \
        if (rows == 8 && TALLEST(vectors) == 8)                                                                        \
            sparse_tile(8, vectors, ARGUMENTS);                                                                        \
        else if (rows == 6 && TALLEST(vectors) >= 6)                                                                   \
            sparse_tile(6, vectors, ARGUMENTS);                                                                        \
        else if (rows == 4)                                                                                            \
            sparse_tile(4, vectors, ARGUMENTS);                                                                        \
        else if (rows == 2)                                                                                            \
            sparse_tile(2, vectors, ARGUMENTS);                                                                        \
        else                                                                                                           \
            sparse_tile(1, vectors, ARGUMENTS);                                                                        \
    }
TILES(1)
TILES(2)
#if MANY_REGISTERS
TILES(3)
TILES(4)
#endif

/* One block of rows, as wide as x is: in panels of nearly equal width. */
static inline void panels(size rows, size vectors, const real *const *a, const size *off, size halved, size count,
                          const real *x, size stride, real *out, size ahead) {
    size left = (vectors + WIDEST - 1) / WIDEST;
    for (size wide; vectors > 0; vectors -= wide, left--, x += wide * LANES, out += wide * LANES) {
        wide = (vectors + left - 1) / left;
        switch (wide) {
        case 1: tiles1(rows, ARGUMENTS); break;
        case 2: tiles2(rows, ARGUMENTS); break;
#if MANY_REGISTERS
        case 3: tiles3(rows, ARGUMENTS); break;
        case 4: tiles4(rows, ARGUMENTS); break;
#endif
        }
    }
}

static inline size height(size left, size vectors) {
    size panels = (vectors + WIDEST - 1) / WIDEST, most = TALLEST((vectors + panels - 1) / panels);
    if (left >= most)
        return most;
    return left >= 6 && most > 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* Rows first .. last-1 of  out_i = sum_c a[at_i * pitch + off_c] x_c, all of length stride (at_i = i if at is 0).
   triangular: c from i on, the block on the diagonal by half, so that  M'out + (M'out)' = M'AM  for symmetric A. */
static inline void sparse_product(const real *a, const size *at, size pitch, size first, size last, const size *off,
                                  size count, const real *x, size stride, real *out, int triangular) {
    const real *rows[8];
    size vectors = stride / LANES;
    for (size i = first, high; i < last; i += high) {
        high = height(last - i, vectors);
        for (size k = 0; k < high; k++)
            rows[k] = a + (at ? at[i + k] : i + k) * pitch;
        size from = triangular ? i : 0, halved = triangular ? high : 0;
        panels(high, vectors, rows, off + from, halved, count - from, x + from * stride, stride, out + i * stride,
               stride);
    }
}

/* Rows and vectors of a tile with factors in rows. */
#define TALL (MANY_REGISTERS ? 6 : 4)
#define WIDE (MANY_REGISTERS ? 4 : 2)

/* out_i = sum_c a_i[c] w_c for TALL rows i and so many vectors, from column `at` on. */
INLINE void dense_tile(const int vectors, const real *const *a, size count, const real *w, size stride,
                       real *const *out, size at) {
    Vec sum[TALL][WIDE], row[WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < TALL; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (Vec){0};
    for (size c = 0; c < count; c++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            row[v] = *(const Vec *)(w + c * stride + at + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < TALL; i++) {
            Vec factor = a[i][c] - (Vec){0};
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i][v] += factor * row[v];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < TALL; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            *(Vec *)(out[i] + at + v * LANES) = sum[i][v];
}

/* From one row to the next: whole vectors, and not 2 KiB or a multiple, which few sets of a cache would have to hold. */
static inline size row_length(size width) {
    size whole = up(width, LANES);
    return whole % (size)(2048 / sizeof(real)) ? whole : whole + LANES;
}

/* out_i = sum_c a_i[c] w_c for n rows i; the lists have room for a whole tile. */
static inline void dense_product(size n, const real **a, size count, const real *w, size width, real **out) {
    size stride = row_length(width);
    for (size i = n; i % TALL; i++)
        a[i] = a[n - 1], out[i] = out[n - 1];
    for (size at = 0; at < width;) {
        int wide = at + WIDE * LANES <= up(width, LANES);
        for (size i = 0; i < n; i += TALL)
            if (wide)
                dense_tile(WIDE, a + i, count, w, stride, out + i, at);
            else
                dense_tile(1, a + i, count, w, stride, out + i, at);
        at += wide ? WIDE * LANES : LANES;
    }
}

/* out = sum_k a_k m_k over the rows k = first .. last-1 of m, whole vectors long, with a_k `pitch` numbers apart. */
INLINE void sum(const int vectors, const real *a, size pitch, size first, size last, const real *m, size stride,
                real *out) {
    Vec sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        sum[v] = (Vec){0};
    for (size k = first; k < last; k++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[v] += a[k * pitch] * *(const Vec *)(m + k * stride + v * LANES);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        *(Vec *)(out + v * LANES) = sum[v];
}

static inline void combine(const real *a, size pitch, size first, size last, const real *m, size stride, real *out) {
    size at = 0;
    for (; at + 4 * LANES <= stride; at += 4 * LANES)
        sum(4, a, pitch, first, last, m + at, stride, out + at);
    for (; at < stride; at += LANES)
        sum(1, a, pitch, first, last, m + at, stride, out + at);
}

/* Of A = U'U the upper U in place of A, rows `stride` apart; row is room for one. 0 = done. */
static inline int cholesky(real *u, size wide, size stride, real *row) {
    for (size j = 0; j < wide; j++) {
        real *pivot = u + j * stride;
        combine(u + j, stride, 0, j, u, stride, row);
        real square = pivot[j] - row[j], scale = 1 / (real)sqrt(square);
        if (!(square > 0) || square > (sizeof(real) == 4 ? 1e38 : 1e300))
            return 1;
        for (size c = 0; c < stride; c++)
            pivot[c] = (pivot[c] - row[c]) * scale;
    }
    return 0;
}

/* x = (U'U)^-1 x */
static inline void substitute(const real *u, size wide, size stride, real *x) {
    for (size j = 0; j < wide; j++) {
        x[j] /= u[j * stride + j];
        for (size k = j + 1; k < wide; k++)
            x[k] -= u[j * stride + k] * x[j];
    }
    for (size j = wide; j-- > 0;)
        x[j] = (x[j] - dot(u + j * stride + j + 1, x + j + 1, wide - j - 1)) / u[j * stride + j];
}

/* Rows of `from` in rows `stride` apart. */
static inline void copy(real *to, size stride, const real *from, size wide) {
    for (size r = 0; r < wide; r++)
        memcpy(to + r * stride, from + r * wide, wide * sizeof(real));
}

/* Columns d .. d + LANES - 1 of rows i .. i + LANES - 1 of m to rows of turned, which begin at column i; 1 = done. */
INLINE int turn_tile(const real *m, size columns, size rows, real *turned, size stride, size wide) {
#ifdef __AVX512F__
    if (sizeof(real) == 4) {
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
static inline void turn(const real *m, size columns, size count, size wide, real *to, size stride) {
    for (size i = 0; i < count; i += LANES)
        for (size first = 0; first < wide; first += LANES) {
            const real *from = m + i * columns + first;
            real *into = to + first * stride + i;
            if (first + LANES <= columns && turn_tile(from, columns, count - i, into, stride, wide - first))
                continue;
            for (size d = 0; d < LANES && d < wide - first; d++)
                for (size k = 0; k < LANES; k++)
                    into[d * stride + k] = k < count - i ? from[k * columns + d] : 0;
        }
}

#endif
