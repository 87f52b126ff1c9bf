/* Which planes of bytes AMX multiplies in a ring, and in which order (matmul_amx.c). */

#ifndef MPCNET_MATMUL_AMX_PASSES_H
#define MPCNET_MATMUL_AMX_PASSES_H

#include "matmul_amx_planes.h"
#include "product.h"

enum {
    PLANES = 72,    /* tiles of 16 rows of A in all planes; those of 128 rows take 590 KB of the second-level cache */
    MOST_LIMBS = 8, /* bytes of a word */
    SUMS = 6,       /* tile registers that hold sums; the other two hold operands */
    MOST_DEPTH = PLANES / (MOST_LIMBS - 3) * STEP, /* in rings of 5 bytes and more */
    MOST_PAIRS = MOST_LIMBS * (MOST_LIMBS + 1) / 2,
};

/* Bits of d_s from the 32nd on may be lost only where 2^8s times those is above the ring of L bytes: for s + 4 >= L. An
 * earlier d_s, as rings of 5 bytes and more have them, adds up s + 1 products for each word of the depth. */
_Static_assert((uint64_t)(MOST_LIMBS - 4) * 255 * 255 * MOST_DEPTH < (uint64_t)1 << 32, "sums fit 32 bits");

/* The sums d_first..d_last, which fit the registers together: pairs of planes to multiply, in an order in which all but
 * a few load one tile only. */
struct pass {
    int first, last, count;
    struct {
        uint8_t a, b, sum;
    } pair[MOST_PAIRS];
};

/* How a ring's words are split. */
struct split {
    int limbs, word, passes;
    int64_t depth; /* that is split at a time */
    struct pass pass[2];
};

static inline struct split split_of(int64_t bits)
{
    struct split split = {.limbs = (int)(bits + 7) / 8, .word = mpc_word(bits)};
    split.depth = PLANES / split.limbs * STEP;
    for (int first = 0; first < split.limbs; first += SUMS) {
        struct pass *pass = &split.pass[split.passes++];
        *pass = (struct pass){.first = first, .last = (int)mpc_min(first + SUMS, split.limbs) - 1};
        for (int i = 0; i <= pass->last; i++) {
            int least = first > i ? first - i : 0, most = pass->last - i;
            for (int q = least; q <= most; q++, pass->count++) {
                int j = i % 2 ? most + least - q : q;
                pass->pair[pass->count].a = (uint8_t)i;
                pass->pair[pass->count].b = (uint8_t)j;
                pass->pair[pass->count].sum = (uint8_t)(i + j - first);
            }
        }
    }
    return split;
}

#endif
