/* Products of digits for processors with AVX2 and no more: rings of 33 to 48 bits (matmul_digits.c). */

#ifndef MPCNET_MATMUL_DIGITS_H
#define MPCNET_MATMUL_DIGITS_H

#include "matmul.h"

enum { MPC_DIGITS_BITS = 48, MPC_DIGITS_DEPTH = 128 /* rows of a panel, at most */ };

/* What multiplies digits for a ring of so many bits; `digits` of the tiles says which. */
const struct mpc_tiles *mpc_matmul_digit_tiles(int bits);

/* Rows of A, words of 8 bytes, become rows of digits, `to_stride` words apart; an odd last word goes with zero. */
void mpc_matmul_digit_rows(int digits, const char *from, int64_t stride, int64_t rows, int64_t depth, int64_t to_stride,
                           void *to);

/* As mpc_matmul_pack. */
void mpc_matmul_digit_panel(int digits, const struct mpc_block *block, int64_t width, void *panel);

#endif
