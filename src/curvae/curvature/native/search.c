/* The mode of log p(x, z) for a ReLU chain, a log-likelihood quadratic in its last layer and a standard normal prior:
   Newton steps, each followed by quasi-Newton steps, and one shorter step where a full one does not climb.

   What solvers.py, bfgs.py, search.py and gram.py say in torch, without a call between two products: small networks
   spend more time on calls than on products. The items of a block step together, so that one pass over a weight serves
   many of them; an item that is done is left out.

   compiler.py compiles it with kernel.c, and ../compiled.py calls it; the part below "#else" is included once per type. */

#ifndef REAL

#include "native.h"
#include <math.h>

#define REAL float
#include "search.c"
#undef REAL
#define REAL double
#include "search.c"

#else

#include "chain.h"
#include "newton.h"

/* The factor U of Lam = U'U here, Lam the likelihood's part and the identity. 0 = done. */
static int NAME(factorize)(const CHAIN *chain, ITEM *const *items, size n, uint8_t *const *masks, REAL *lam) {
    size wide = chain->widths[0], stride = chain->stride[0];
    for (size l = 1; l <= chain->depth; l++)
        for (size i = 0; i < n; i++)
            for (size k = 0; k < chain->widths[l]; k++)
                masks[l - 1][i * chain->widths[l] + k] = items[i]->here.value[l][k] > 0;
    if (NAME(precision)(chain->depth, chain->widths, chain->weights, (const uint8_t *const *)masks, chain->gram, NULL,
                        0, n, lam, NULL, NULL))
        return 1;
    for (size i = 0; i < n; i++) {
        ITEM *item = items[i];
        NAME(copy)(item->factor, stride, lam + i * wide * wide, wide);
        for (size j = 0; j < wide; j++)
            item->factor[j * stride + j] += 1;
        if (NAME(cholesky)(item->factor, wide, stride, item->step))
            return 1;
    }
    return 0;
}

/* What the step just tried tells of the curvature; whether anything. */
static int NAME(learn)(const CHAIN *chain, ITEM *item, REAL caution) {
    size wide = chain->widths[0], stride = chain->stride[0];
    REAL *s = item->steps + item->pairs * stride, *y = item->falls + item->pairs * stride;
    for (size k = 0; k < wide; k++)
        s[k] = item->length * item->step[k], y[k] = item->last[k] - item->grad[k];
    REAL curvature = NAME(dot)(s, y, wide);
    if (!(curvature > caution * (item->length * item->length * item->gain)) || !isfinite(curvature))
        return 0;
    item->weights[item->pairs++] = 1 / curvature;
    return 1;
}

/* The gradient where the last step has led, and what it tells; of a step tried in vain that of its end, seen from here.
   Left are the items that can still move: one that learns nothing goes back to the bare factor, and waits for the next
   where that leads nowhere. */
static size NAME(review)(const CHAIN *chain, ITEM **items, size n, REAL caution) {
    size left = 0;
    for (size i = 0; i < n; i++)
        if (!items[i]->moves)
            NAME(exchange)(items[i]);
    NAME(gradient)(chain, items, n);
    for (size i = 0; i < n; i++) {
        ITEM *item = items[i];
        size known = item->pairs;
        int learned = NAME(learn)(chain, item, caution);
        if (!item->moves) {
            REAL *beyond = item->grad;
            item->grad = item->last, item->last = beyond;
            NAME(exchange)(item);
            item->pairs = learned ? item->pairs : 0;
        }
        if (item->moves || learned || known)
            items[left++] = item;
    }
    return left;
}

/* step = B^-1 grad, B = Lam corrected by the pairs */
static void NAME(solve)(const CHAIN *chain, ITEM *item) {
    size wide = chain->widths[0], stride = chain->stride[0];
    REAL *x = memcpy(item->step, item->grad, wide * sizeof(REAL)), *share = item->shares;
    for (size p = item->pairs; p-- > 0;) {
        share[p] = item->weights[p] * NAME(dot)(item->steps + p * stride, x, wide);
        for (size k = 0; k < wide; k++)
            x[k] -= share[p] * item->falls[p * stride + k];
    }
    NAME(substitute)(item->factor, wide, stride, x);
    for (size p = 0; p < item->pairs; p++) {
        REAL rest = share[p] - item->weights[p] * NAME(dot)(item->falls + p * stride, x, wide);
        for (size k = 0; k < wide; k++)
            x[k] += rest * item->steps[p * stride + k];
    }
}

/* Items begin .. end-1 from z to where up to `visits` steps lead, z (B, D) in place; every `cycle` steps the factor is
   made anew. An item is done when a step promises tolerance nats at most, or when no step from a factor moved it.
   values (L times B, H_l) are what the layers give at the end, log_joint and grad_norm (visits, B) what was seen before
   each step, the last of it repeated for what is done. level (B), origin and pitch (B, H_L) and gram say log p(x | h);
   rule is {shortest, worth, sufficient, tolerance, caution}. 0 = done. */
int NAME(search)(GIVEN, size begin, size end, const REAL *rule, size batch, size visits, size cycle, REAL *z,
                 REAL *const *values, REAL *log_joint, REAL *grad_norm) {
    FRAME frame;
    ITEM *items = frame.items, *going[BLOCK];
    size wide = widths[0];
    REAL tolerance = rule[3], caution = rule[4];
    if (NAME(open)(&frame, cycle, SAME))
        return 1;
    int failed = 0;
    for (size first = begin; first < end && !failed; first += BLOCK) {
        size members = end - first < BLOCK ? end - first : BLOCK, n = members;
        NAME(admit)(&frame, first, members, z, going);
        NAME(look)(&frame.chain, going, n);
        for (size i = 0; i < members; i++)
            NAME(exchange)(&items[i]);
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
                NAME(gradient)(&frame.chain, going, n);
                failed = n && NAME(factorize)(&frame.chain, going, n, frame.masks, frame.lam);
                for (size i = 0; i < n; i++)
                    going[i]->pairs = going[i]->moved = 0;
            } else
                n = NAME(review)(&frame.chain, going, n, caution);
            for (size i = 0; i < n; i++) {
                ITEM *item = going[i];
                NAME(solve)(&frame.chain, item);
                item->gain = NAME(dot)(item->grad, item->step, wide);
                log_joint[t * batch + item->index] = item->here.log_joint;
                grad_norm[t * batch + item->index] = (REAL)sqrt(NAME(dot)(item->grad, item->grad, wide));
            }
            NAME(advance)(&frame.chain, going, n, rule);
            size trying = n;
            n = 0;
            for (size i = 0; i < trying; i++) {
                ITEM *item = going[i];
                item->done = !(item->gain / 2 > tolerance);
                if (!item->done)
                    going[n++] = item;
            }
        }
        for (size i = 0; i < members; i++) {
            memcpy(z + items[i].index * wide, items[i].here.value[0], wide * sizeof(REAL));
            for (size l = 1; l <= depth; l++)
                memcpy(values[l - 1] + items[i].index * widths[l], items[i].here.value[l], widths[l] * sizeof(REAL));
        }
    }
    free(frame.memory);
    return failed;
}

#endif
