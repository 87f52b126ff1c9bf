/* Words of rings of 33 to 48 bits as digits of up to 16 bits, for vpmaddwd: it multiplies signed words of 16 bits and adds
 * neighbouring products, mod 2^32.
 *
 * Up to 40 bits: x = x0 + 2^13 x1 + 2^27 x2 mod 2^40 with x0 in [-2^12, 2^12), x1 in [-2^13, 2^13), and y likewise, so
 *
 *   x y = x0 y0 + 2^13 (x0 y1 + x1 y0) + 2^26 x1 y1 + 2^27 (x0 y2 + x2 y0)   mod 2^40
 *
 * The first bracket is (x0 + x1) (y0 + y1) - x0 y0 - x1 y1 (Karatsuba): five products in all. All but the first are wanted
 * mod 2^27 or less, so their sums may wrap; that of the x0 y0 is in (-2^31, 2^31] over up to MPC_DIGITS_DEPTH rows.
 *
 * Up to 48 bits: x = x0 + 2^16 x1 + 2^32 x2 mod 2^48 with x0 and x1 in [-2^15, 2^15), so
 *
 *   x y = x0 y0 + 2^16 (x0 y1 + x1 y0) + 2^32 (x0 y2 + x1 y1 + x2 y0)   mod 2^48
 *
 * What is in brackets is wanted mod 2^32 and 2^16, so its sums may wrap. The sum of the x0 y0 is wanted mod 2^48. It is
 * known mod 2^32 in the same way, and nearly from x' = round(x0 / 16): x0 y0 and 256 x' y' differ by less than 2^19 + 65.
 * So over up to MPC_DIGITS_DEPTH rows the sum is less than 2^31 away from 256 times that of the x' y', which fits 32 bits.
 * That is seven products; four digits of 12 bits would take eight, with Karatsuba's formula. */

#ifndef MPCNET_MATMUL_DIGITS_H
#define MPCNET_MATMUL_DIGITS_H

#include "matmul.h"

enum { MPC_DIGITS_DEPTH = 128, MPC_DIGITS_LANES = 8 };

/* x0, x1, x2 and x0 + x1 (up to 40 bits) or x' (up to 48) of two words: of the first in the low halves. They are of a row
 * of A and lie side by side, or of a column of B and lie one below the other. A panel has them digit by digit, each of
 * eight columns. */
struct mpc_digits {
    uint32_t digit[4];
};

/* Rows of A, words of 8 bytes, become rows of digits for rings of so many bits, `to_stride` words apart; an odd last word
 * goes with zero. */
void mpc_matmul_digit_rows(int bits, const char *from, int64_t stride, int64_t rows, int64_t depth, int64_t to_stride,
                           void *to);

#endif
