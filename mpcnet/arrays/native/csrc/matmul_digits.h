/* Words as digits of up to 16 bits, for products in rings of 33 to 48 bits by AVX2 (matmul_tiles_digits.c). */

#ifndef MPCNET_MATMUL_DIGITS_H
#define MPCNET_MATMUL_DIGITS_H

#include "matmul_panel.h"

enum {
    MPC_DIGITS_DEPTH = 128, /* rows of a panel, at most */
    MPC_DIGITS_COLUMNS = 8, /* of a tile */
};

/* The digits of two words, with the first word's in the low halves: x0, x1, x2, and x0 + x1 (rings of up to 40 bits) or
 * round(x0 / 16) (up to 48). Two words of a row of A lie side by side; two of a column of B lie one below the other. A
 * panel holds the first digits of MPC_DIGITS_COLUMNS columns, then their second digits, and so on. */
struct mpc_digits {
    uint32_t digit[4];
};

/* Rows of A, words of 8 bytes, become rows of digits, `to_stride` words apart. An odd last word is paired with zero.
 * `digits` is that of the tiles. */
void mpc_matmul_digit_rows(int digits, const char *from, int64_t stride, int64_t rows, int64_t depth, int64_t to_stride,
                           void *to);

/* As mpc_matmul_pack. */
void mpc_matmul_digit_panel(int digits, const struct mpc_block *block, int64_t width, void *panel);

#endif
