/* Tiles: the blocks of C whose sums fit the vector registers, for each level and width of words. */

#ifndef MPCNET_MATMUL_TILES_H
#define MPCNET_MATMUL_TILES_H

#include "kernels.h"

/* Computes one block of C: to = from +- a b, for a[rows, depth] and a packed panel b[depth, columns].
 *
 * Rows of `a` are `a_stride` words apart, those of `from` and `to` `stride` words; `from` is NULL for zero. A tile
 * computes as many rows as it has: if `rows` is less, it reads the last row again, and `to` must have room for them.
 * Step k prefetches the line at ahead + k ahead_stride, of the panel to be packed next, into the second-level cache. */
typedef void (*mpc_tile)(int64_t depth, const void *a, int64_t a_stride, int rows, const void *panel, const void *from,
                         void *to, int64_t stride, int negative, const char *ahead, int64_t ahead_stride);

enum { MOST_VECTORS = 3, MOST_ROWS = 8, MOST_LANES = 16 };

/* The tiles of one level for one width of words; tile[v - 1] is v vectors wide. */
struct mpc_tiles {
    mpc_tile tile[MOST_VECTORS];
    int vectors, rows, lanes;
    int word;   /* bytes of a word */
    int pairs;  /* the panel holds two rows, word by word; depth counts pairs */
    int digits; /* not 0: A and the panel hold digits of pairs, for rings of up to so many bits (matmul_digits.h) */
};

/* The fastest tiles of a level for a ring. */
const struct mpc_tiles *mpc_matmul_tiles(int level, int bits);

/* By level and bits. */
extern const struct mpc_tiles mpc_tiles_portable_16, mpc_tiles_portable_32, mpc_tiles_portable_64;
#if MPC_X86
extern const struct mpc_tiles mpc_tiles_avx2_16, mpc_tiles_avx2_32, mpc_tiles_avx2_40, mpc_tiles_avx2_48,
    mpc_tiles_avx2_64;
extern const struct mpc_tiles mpc_tiles_avx512_16, mpc_tiles_avx512_32, mpc_tiles_avx512_64;
extern const struct mpc_tiles mpc_tiles_avx512vnni_16, mpc_tiles_avx512ifma_52;
#endif

#endif
