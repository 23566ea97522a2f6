/* A step of a block of data: the factor of a precision, and how far to go.

   Included by search.c and last.c after chain.h, once per number type. */

/* out = sum_k a_k m_k over the rows k = first .. last-1 of m, whole vectors long, with a_k `pitch` numbers apart. */
INLINE void NAME(sum)(const int vectors, const REAL *a, size pitch, size first, size last, const REAL *m, size stride,
                      REAL *out) {
    VEC sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        sum[v] = (VEC){0};
    for (size k = first; k < last; k++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[v] += a[k * pitch] * *(const VEC *)(m + k * stride + v * LANES);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        *(VEC *)(out + v * LANES) = sum[v];
}

static void NAME(combine)(const REAL *a, size pitch, size first, size last, const REAL *m, size stride, REAL *out) {
    size at = 0;
    for (; at + 4 * LANES <= stride; at += 4 * LANES)
        NAME(sum)(4, a, pitch, first, last, m + at, stride, out + at);
    for (; at < stride; at += LANES)
        NAME(sum)(1, a, pitch, first, last, m + at, stride, out + at);
}

/* Of A = U'U the upper U in place of A, rows `stride` apart; row is room for one. 0 = done. */
static int NAME(cholesky)(REAL *u, size wide, size stride, REAL *row) {
    for (size j = 0; j < wide; j++) {
        REAL *pivot = u + j * stride;
        NAME(combine)(u + j, stride, 0, j, u, stride, row);
        REAL square = pivot[j] - row[j], scale = 1 / (REAL)sqrt(square);
        if (!(square > 0) || square > (sizeof(REAL) == 4 ? 1e38 : 1e300))
            return 1;
        for (size c = 0; c < stride; c++)
            pivot[c] = (pivot[c] - row[c]) * scale;
    }
    return 0;
}

/* x = (U'U)^-1 x */
static void NAME(substitute)(const REAL *u, size wide, size stride, REAL *x) {
    for (size j = 0; j < wide; j++) {
        x[j] /= u[j * stride + j];
        for (size k = j + 1; k < wide; k++)
            x[k] -= u[j * stride + k] * x[j];
    }
    for (size j = wide; j-- > 0;)
        x[j] = (x[j] - NAME(dot)(u + j * stride + j + 1, x + j + 1, wide - j - 1)) / u[j * stride + j];
}

/* Rows of `from` in rows `stride` apart. */
static void NAME(copy)(REAL *to, size stride, const REAL *from, size wide) {
    for (size r = 0; r < wide; r++)
        memcpy(to + r * stride, from + r * wide, wide * sizeof(REAL));
}

static void NAME(aim)(const CHAIN *chain, ITEM *item, REAL length) {
    item->length = length;
    for (size k = 0; k < chain->widths[0]; k++)
        item->there.value[0][k] = item->here.value[0][k] + length * item->step[k];
}

/* The full step, a shorter one where that does not climb, or none: search.py's Backtracking. */
static void NAME(advance)(const CHAIN *chain, ITEM *const *items, size n, const REAL *rule) {
    REAL shortest = rule[0], worth = rule[1], sufficient = rule[2];
    ITEM *tried[BLOCK];
    size left = n;
    memcpy(tried, items, n * sizeof(*tried));
    for (size i = 0; i < n; i++) {
        NAME(aim)(chain, items[i], 1);
        items[i]->moves = 0;
    }
    for (int again = 0; again < 2; again++) {
        size trials = left;
        NAME(look)(chain, tried, trials);
        left = 0;
        for (size i = 0; i < trials; i++) {
            ITEM *item = tried[i];
            REAL rise = item->there.log_joint - item->here.log_joint, gain = item->gain;
            if (rise >= sufficient * item->length * gain) {
                NAME(exchange)(item);
                item->moved = item->moves = 1;
            } else if (!again && !(gain / 2 <= worth)) {
                REAL length = gain / 2 / (gain - rise);
                NAME(aim)(chain, item, !(length >= shortest) ? shortest : length > 0.5 ? (REAL)0.5 : length);
                tried[left++] = item;
            }
        }
    }
}
