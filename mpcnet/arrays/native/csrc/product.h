/* A matrix product as Python describes it: out = c + sum over terms of +- a b, for a batch of matrices.
 *
 * mpcnet/arrays/native/structures.py declares the same structures, and library.py compares their sizes (abi.c).
 */

#ifndef MPCNET_PRODUCT_H
#define MPCNET_PRODUCT_H

#include "kernels.h"

enum { MPC_MOST_BATCH = 4, MPC_MOST_TERMS = 2 };

/* Columns of a strip: whole tiles of every kind. */
enum { MPC_STRIP = 48 };

/* The layout of a right operand.
 *
 * ROWS    words lie where the strides say.
 * STRIPS  the first MPC_STRIP columns come first, row by row without gaps; then the next MPC_STRIP columns, and so on.
 *         The last strip may be narrower.
 * PLANES  as STRIPS, except that the rows of a full strip that fill whole tiles are split into planes of bytes
 *         (matmul_planes.c). These take as many bytes as the words would. The remaining rows follow as words. */
enum mpc_layout { MPC_ROWS, MPC_STRIPS, MPC_PLANES };

/* A batch of matrices. Strides are in bytes; those of a broadcast dimension are zero. */
struct mpc_operand {
    const char *data, *end; /* nothing at or behind `end` may be read */
    int64_t batch[MPC_MOST_BATCH];
    int64_t row, column; /* ignored unless the layout is ROWS */
    int64_t bytes;       /* of a stored word */
    int64_t layout;
};

struct mpc_term {
    struct mpc_operand a, b;
    int64_t depth, negative;
};

/* `c` (or NULL for zero) and `out` are contiguous: [batch..., rows, columns] words. */
struct mpc_product {
    const char *c;
    char *out;
    int64_t batch[MPC_MOST_BATCH];
    int64_t rows, columns, bits, terms;
    struct mpc_term term[MPC_MOST_TERMS];
};

/* Bytes of a stored word of a ring: 8 for 33 to 64 bits, 4 for 17 to 32, 2 for 9 to 16. */
MPC_INLINE int mpc_word(int64_t bits) { return bits > 32 ? 8 : bits > 16 ? 4 : 2; }

/* The share of one thread: columns first..last of one matrix of the batch, whose operands are looked up already. */
struct mpc_part {
    const struct mpc_product *product;
    const char *a[MPC_MOST_TERMS], *b[MPC_MOST_TERMS], *c;
    char *out;
    int64_t first, last;
};

/* Each computes a part, or returns MPC_NO_MEMORY if there is no room for its buffers. */
int mpc_matmul_vectors(int level, const struct mpc_part *part);
int mpc_matmul_amx(const struct mpc_part *part);

/* At the level of AMX: whether mpc_matmul_amx is faster for this product, or the only one that can compute it. */
int mpc_matmul_amx_fits(const struct mpc_product *product);

#endif
