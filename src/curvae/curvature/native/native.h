/* What kernel.c and search.c share. Each includes itself once for float and once for double, with REAL set: NAME(x) is
   the name of x for that type. */

#ifndef CURVAE_NATIVE_H
#define CURVAE_NATIVE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64 /* of a vector */
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#if defined(__AVX512F__)
#define INSTRUCTIONS "avx512"
#elif defined(__AVX2__)
#define INSTRUCTIONS "avx2"
#elif defined(__AVX__)
#define INSTRUCTIONS "avx"
#elif defined(__SSE2__)
#define INSTRUCTIONS "sse2"
#elif defined(__ARM_NEON)
#define INSTRUCTIONS "neon"
#else
#define INSTRUCTIONS "generic"
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define MANY_REGISTERS 1
#else
#define MANY_REGISTERS 0
#endif

#define LAYERS 16 /* at most */

#define INLINE static inline __attribute__((always_inline))
#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(a) PASTE(a, REAL)
#define LANES ((size)(BYTES / sizeof(REAL)))
#define VEC NAME(Vec)

typedef ptrdiff_t size;
typedef float Vec_float __attribute__((vector_size(BYTES), aligned(sizeof(float)), may_alias));
typedef double Vec_double __attribute__((vector_size(BYTES), aligned(sizeof(double)), may_alias));

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

#endif
