/* Words of rings of up to 48 bits as digits of 16 bits, for vpmaddwd: it multiplies signed words of 16 bits and adds up
 * neighbouring products, mod 2^32. For x = x0 + 2^16 x1 + 2^32 x2 with x0 and x1 in [-2^15, 2^15), and y likewise,
 *
 *   x y = x0 y0 + 2^16 (x0 y1 + x1 y0) + 2^32 (x0 y2 + x1 y1 + x2 y0)   mod 2^48
 *
 * What is in brackets is wanted mod 2^32 and 2^16, so its sums may wrap. The sum of the x0 y0 is wanted mod 2^48. It is
 * known mod 2^32 in the same way, and nearly from x' = round(x0 / 16): x0 y0 and 256 x' y' differ by less than 2^19 + 65.
 * So over up to MPC_DIGITS_DEPTH rows the sum is less than 2^31 away from 256 times that of the x' y', which fits 32 bits.
 * That is seven products of digits; four of 12 bits would take ten. */

#ifndef MPCNET_MATMUL_DIGITS_H
#define MPCNET_MATMUL_DIGITS_H

#include "matmul.h"

enum { MPC_DIGITS_BITS = 48, MPC_DIGITS_DEPTH = 511, MPC_DIGITS_LANES = 8 };

/* x0, x1, x2 and x' of two words: of the first in the low halves. They are of a row of A and lie side by side, or of a
 * column of B and lie one below the other. A panel has them digit by digit, each of eight columns. */
struct mpc_digits {
    uint32_t digit[4];
};

/* Rows of A, words of 8 bytes, become rows of digits, `to_stride` words apart; an odd last word goes with zero. */
void mpc_matmul_digit_rows(const char *from, int64_t stride, int64_t rows, int64_t depth, int64_t to_stride, void *to);

#endif
