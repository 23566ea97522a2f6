/* a'b. Included by chain.h and active.h, once per number type. */

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
