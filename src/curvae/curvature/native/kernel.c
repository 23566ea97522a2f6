/* Lam = M'GM and its gradient for a ReLU chain, item by item, over active units alone.

   M_1 = K_1 W_0,  M_l = K_l W_{l-1} M_{l-1},  Lam = M_L' G M_L,  with one G for all items or for each a diagonal of its
   own. Only the rows of M_l that are active are kept, packed: n_l rows of D columns, padded to whole vectors. Where a
   gradient will be wanted, M_2 .. M_L and T = G M_L stay in memory of the caller (T = F M_L does not: it is made again);
   elsewhere half of T is enough. Every product has the form  out_i = sum_c a_i[off_c] x_c  with rows x_c in vectors and
   scalars a gathered by the offsets of the active units; a tile keeps several rows i in registers.
   Items go in groups, and the rows of a weight in chunks, so that a chunk serves a whole group from the cache.

   Vectors over active units, packed from each matrix for each item, were measured too: they need no row of D padded and
   fewer loads, but at 256 units and 16 latents packing took as long as that saved.

   compiler.py compiles it, and ../kernel.py calls it; the part below "#else" is included once per number type. */

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

const int vector_bytes = BYTES; /* kernel.py makes room for whole vectors */
const char *const instructions = INSTRUCTIONS;

#define REAL float
#include "kernel.c"
#undef REAL
#define REAL double
#include "kernel.c"

#else

#include "active.h"

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
        for (size l = 2; backward && l <= chain->depth; l++)
            chain->turned[l] = take(&arena, chain->widths[l - 1] * up(chain->widths[l], LANES) * sizeof(REAL));
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
    for (size l = 2; backward && l <= chain->depth; l++)
        NAME(turn)(chain->weights[l - 1], chain->widths[l - 1], chain->widths[l], chain->widths[l - 1], chain->turned[l],
                   up(chain->widths[l], LANES));
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
        REAL *place = chain->kept + chain->starts[b] * columns;
        for (size l = 2; l <= chain->depth; l++) {
            item->m[l] = place;
            place += item->count[l] * columns;
        }
        item->t = chain->own ? item->t : place;
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

/* to = F from, F the item's own diagonal, for the rows of M_L. */
static void NAME(weight)(const CHAIN *chain, const ITEM *item, size b, const REAL *from, REAL *to) {
    const REAL *own = chain->own + b * chain->widths[chain->depth];
    for (size i = 0; i < item->count[chain->depth]; i++)
        for (size c = 0; c < chain->columns; c++)
            to[i * chain->columns + c] = own[item->active[chain->depth][i]] * from[i * chain->columns + c];
}

#define EACH_CHUNK(width)                                                                                              \
    for (size chunk = 0; chunk * CHUNK < (width); chunk++)                                                             \
        for (ITEM *item = items; item < items + members; item++)
#define ROWS(l) item->start[l][chunk], item->start[l][chunk + 1]

/* Lam of items begin .. end-1, in its place in lam (B, D, D); for gram or own, kept and starts see the chain. Where
   nothing is kept only the upper triangle of gram is read. 0 = done. */
int NAME(precision)(size depth, const size *widths, const REAL *const *weights, const uint8_t *const *masks,
                    const REAL *gram, const REAL *own, size begin, size end, REAL *lam, REAL *kept,
                    const int64_t *starts) {
    if (depth < 1 || depth > LAYERS)
        return 1;
    CHAIN chain = {.depth = depth, .widths = widths, .weights = weights, .masks = masks, .gram = gram,
                   .own = own, .columns = up(widths[0], LANES), .kept = kept, .starts = starts};
    ITEM items[GROUP];
    size wide = widths[0], columns = chain.columns, top = widths[depth];
    REAL share = kept || own ? (REAL)0.5 : 1;
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
        for (size i = 0; own && i < members; i++)
            NAME(weight)(&chain, &items[i], b + i, items[i].m[depth], items[i].t);
        EACH_CHUNK(own ? 0 : top)
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

static void NAME(turn_part)(const CHAIN *chain, ITEM *item, size l) {
    size count = item->count[l];
    NAME(turn)(item->m[l], chain->columns, count, chain->widths[0], item->turned, up(count, LANES));
}

/* m is symmetric: what is below its diagonal comes from above, block by block as rows are far apart. */
static void NAME(mirror)(REAL *m, size width) {
    for (size top = 0; top < width; top += LANES)
        for (size left = 0; left <= top; left += LANES)
            for (size r = top; r < width && r < top + LANES; r++)
                for (size c = left; c < r && c < left + LANES; c++)
                    m[r * width + c] = m[c * width + r];
}

/* Adds to dweights and dgram, 0 at first, what items begin .. end-1 give for the adjoint (B, D, D) of Lam, with what was
   kept; dgram is that of `own` where that is given. 0 = done. */
int NAME(precision_backward)(size depth, const size *widths, const REAL *const *weights, const uint8_t *const *masks,
                             const REAL *own, size begin, size end, const REAL *adjoint, REAL *kept,
                             const int64_t *starts, REAL *const *dweights, REAL *dgram) {
    if (depth < 1 || depth > LAYERS)
        return 1;
    CHAIN chain = {.depth = depth, .widths = widths, .weights = weights, .masks = masks, .own = own,
                   .columns = up(widths[0], LANES), .kept = kept, .starts = starts};
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
            const REAL *from = own ? item->m[depth] : item->t;
            NAME(multiply)(from, NULL, columns, 0, item->count[depth], chain.ones, wide, item->s, columns, item->upper, 0);
            if (own) { /* of M (A + A')/2 M' the diagonal, and then the weights in upper */
                REAL *diagonal = dgram + (b + i) * top;
                for (size r = 0; r < item->count[depth]; r++)
                    diagonal[item->active[depth][r]] +=
                        NAME(dot)(from + r * columns, item->upper + r * columns, columns) / 2;
                NAME(weight)(&chain, item, b + i, item->upper, item->upper);
                continue;
            }
            for (size k = 0; k < wide * columns; k++)
                item->s[k] *= (REAL)0.5;
            NAME(multiply)(item->m[depth], NULL, columns, 0, item->count[depth], chain.ones, wide, item->s, columns,
                           item->lower, 0);
            NAME(turn_part)(&chain, item, depth);
        }
        EACH_CHUNK(own ? 0 : top) /* dG += M (A + A')/2 M' */
            NAME(outer)(&chain, item, depth, depth, ROWS(depth), item->lower, dgram, 1);
        for (size l = depth; l > 1; l--) { /* dW += dM_l M_{l-1}',  dM_{l-1} = W' dM_l */
            for (size i = 0; i < members; i++)
                NAME(turn_part)(&chain, &items[i], l - 1);
            EACH_CHUNK(widths[l])
                NAME(outer)(&chain, item, l, l - 1, ROWS(l), item->upper, dweights[l - 1], 0);
            EACH_CHUNK(widths[l - 1])
                NAME(multiply)(chain.turned[l], item->active[l - 1], up(widths[l], LANES), ROWS(l - 1), item->active[l],
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
    if (!own)
        NAME(mirror)(dgram, top);
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
