/* The last Newton step to the mode, the one that is differentiated, for what search.c knows; and the adjoint of what it
   gives. ../compiled.py calls both, and ../last.py says what they are for; the part below "#else" is included once per
   number type. */

#ifndef REAL

#include "native.h"
#include <math.h>

#define REAL float
#include "last.c"
#undef REAL
#define REAL double
#include "last.c"

#else

#include "chain.h"
#include "newton.h"

static void NAME(note)(const ITEM *item, size wide, REAL *log_joint, REAL *grad_norm) {
    log_joint[item->index] = item->here.log_joint;
    grad_norm[item->index] = (REAL)sqrt(NAME(dot)(item->grad, item->grad, wide));
}

/* masks (L times B, H_l) say which units are on where values are what the layers give; the rows of M_2 .. M_L and G M_L
   that belong to item b begin at starts[b], and starts[items] is how many there are. 0 = done. */
int NAME(survey)(size depth, const size *widths, const REAL *const *values, size items, uint8_t *const *masks,
                 int64_t *starts) {
    for (size b = starts[0] = 0; b < items; b++) {
        starts[b + 1] = starts[b];
        for (size l = 1; l <= depth; l++) {
            const REAL *value = values[l - 1] + b * widths[l];
            uint8_t *mask = masks[l - 1] + b * widths[l];
            size count = 0;
            for (size k = 0; k < widths[l]; k++)
                count += mask[k] = value[k] > 0;
            starts[b + 1] += count * ((l > 1) + (l == depth));
        }
    }
    return 0;
}

/* Items begin .. end-1 of `batch`, from z, where values (L times B, H_l) are what the layers give; masks and starts are
   those of `survey`, kept is as for `precision`. precision (B, D, D) is Lam, the prior's part included, factor its lower
   one, step = precision^-1 grad. Where that leads by the rule {shortest, worth, sufficient} is mean, length (B) says how
   much of it, left (B) the nats that a further step promises. pulled (L times B, H_l) are the slopes at z back through
   the layers after l; log_joint and grad_norm (2, B) are those at z and at the mean. 0 = done. */
int NAME(last)(GIVEN, size begin, size end, const REAL *rule, size batch, const REAL *z, const REAL *const *values,
               const uint8_t *const *masks, REAL *kept, const int64_t *starts, REAL *precision, REAL *factor,
               REAL *step, REAL *mean, REAL *const *pulled, REAL *log_joint, REAL *grad_norm, REAL *left,
               REAL *length) {
    FRAME frame;
    CHAIN *chain = &frame.chain;
    ITEM *going[BLOCK];
    size wide = widths[0], square = wide * wide, bytes = wide * sizeof(REAL), stride;
    if (NAME(open)(&frame, 0, SAME))
        return 1;
    int failed = NAME(precision)(depth, widths, weights, masks, gram, NULL, begin, end, precision, kept, starts);
    stride = chain->stride[0];
    for (size first = begin; first < end && !failed; first += BLOCK) {
        size members = end - first < BLOCK ? end - first : BLOCK;
        NAME(admit)(&frame, first, members, z, going);
        for (size i = 0; i < members; i++)
            for (size l = 1; l <= depth; l++)
                memcpy(going[i]->there.value[l], values[l - 1] + (first + i) * widths[l], widths[l] * sizeof(REAL));
        NAME(weigh)(chain, going, members);
        for (size i = 0; i < members; i++)
            NAME(exchange)(going[i]);
        NAME(gradient)(chain, going, members);
        for (size i = 0; i < members && !failed; i++) {
            ITEM *item = going[i];
            REAL *matrix = precision + item->index * square, *lower = factor + item->index * square, *u = item->factor;
            for (size j = 0; j < wide; j++)
                matrix[j * wide + j] += 1;
            NAME(copy)(u, stride, matrix, wide);
            failed = NAME(cholesky)(u, wide, stride, item->step);
            for (size r = 0; r < wide; r++)
                for (size c = 0; c < wide; c++)
                    lower[r * wide + c] = c > r ? 0 : u[c * stride + r];
            for (size l = 1; l <= depth; l++)
                memcpy(pulled[l - 1] + item->index * widths[l], item->pulled[l], widths[l] * sizeof(REAL));
            NAME(substitute)(u, wide, stride, memcpy(item->step, item->grad, bytes));
            memcpy(step + item->index * wide, item->step, bytes);
            item->gain = NAME(dot)(item->grad, item->step, wide);
            NAME(note)(item, wide, log_joint, grad_norm);
        }
        NAME(advance)(chain, going, members, rule);
        NAME(gradient)(chain, going, members);
        for (size i = 0; i < members; i++) {
            ITEM *item = going[i];
            memcpy(mean + item->index * wide, item->here.value[0], bytes);
            NAME(note)(item, wide, log_joint + batch, grad_norm + batch);
            NAME(substitute)(item->factor, wide, stride, memcpy(item->step, item->grad, bytes));
            left[item->index] = NAME(dot)(item->grad, item->step, wide) / 2;
            length[item->index] = item->moves ? item->length : 0;
        }
    }
    free(frame.memory);
    return failed;
}

/* m = L'^-1 m, L the lower factor */
static void NAME(lift)(const REAL *lower, size wide, REAL *m, size stride, REAL *row) {
    for (size r = wide; r-- > 0;) {
        REAL scale = 1 / lower[r * wide + r];
        NAME(combine)(lower + r, wide, r + 1, wide, m, stride, row);
        for (size c = 0; c < stride; c++)
            m[r * stride + c] = (m[r * stride + c] - row[c]) * scale;
    }
}

/* x = (L L')^-1 x */
static void NAME(solve_lower)(const REAL *lower, size wide, REAL *x) {
    for (size r = 0; r < wide; r++)
        x[r] = (x[r] - NAME(dot)(lower + r * wide, x, r)) / lower[r * wide + r];
    for (size r = wide; r-- > 0;) {
        x[r] /= lower[r * wide + r];
        for (size k = 0; k < r; k++)
            x[k] -= lower[r * wide + k] * x[r];
    }
}

/* For the adjoints dmean (B, D) of the full step and dfactor (B, D, D) of the lower factor L, items begin .. end-1:
   dgrad = precision^-1 dmean, that of the gradient, and an adjoint of the precision, -dgrad step' + L'^-1 P L^-1 with
   P the lower part of L'dfactor, its diagonal halved. 0 = done. */
int NAME(last_backward)(size wide, size begin, size end, const REAL *factor, const REAL *step, const REAL *dmean,
                        const REAL *dfactor, REAL *dgrad, REAL *adjoint) {
    size stride = up(wide, LANES), square = wide * wide;
    REAL *padded = calloc(2 * wide * stride + stride, sizeof(REAL)), *p, *row;
    if (!padded)
        return 1;
    p = padded + wide * stride, row = p + wide * stride;
    for (size b = begin; b < end; b++) {
        const REAL *lower = factor + b * square, *d = dfactor + b * square;
        REAL *v = memcpy(dgrad + b * wide, dmean + b * wide, wide * sizeof(REAL)), *out = adjoint + b * square;
        NAME(copy)(padded, stride, d, wide);
        for (size r = 0; r < wide; r++) {
            NAME(combine)(lower + r, wide, r, wide, padded, stride, p + r * stride);
            p[r * stride + r] /= 2;
            memset(p + r * stride + r + 1, 0, (stride - r - 1) * sizeof(REAL));
        }
        NAME(lift)(lower, wide, p, stride, row);
        for (size r = 0; r < wide; r++)
            for (size c = 0; c < wide; c++)
                padded[c * stride + r] = p[r * stride + c];
        NAME(lift)(lower, wide, padded, stride, row);
        NAME(solve_lower)(lower, wide, v);
        for (size r = 0; r < wide; r++)
            for (size c = 0; c < wide; c++)
                out[r * wide + c] = padded[r * stride + c] - v[r] * step[b * wide + c];
    }
    free(padded);
    return 0;
}

#endif
