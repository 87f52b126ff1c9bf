/* What the files of the matrix product share. Words of 8 bytes hold rings of 33 to 64 bits, of 4 up to 32, of 2 up to 16. */

#ifndef MPCNET_MATMUL_H
#define MPCNET_MATMUL_H

#include "kernels.h"

/* One block of C: to = from +- a b for a[rows, depth], rows `a_stride` words apart, and a packed panel b[depth, columns].
 * `from` is NULL for zero; `from` and `to` have rows `stride` words apart. It computes as many rows as the tile has, and
 * reads row rows - 1 again where there are fewer, so `to` must have room. Step k asks the second-level cache for the
 * line at ahead + k ahead_stride: the panel that will be packed next. */
typedef void (*mpc_tile)(int64_t depth, const void *a, int64_t a_stride, int rows, const void *panel, const void *from,
                         void *to, int64_t stride, int negative, const char *ahead, int64_t ahead_stride);

enum { MOST_VECTORS = 3, MOST_ROWS = 8, MOST_LANES = 16 };

/* The tiles for one kind of words on one level; tile[v - 1] is v vectors wide. */
struct mpc_tiles {
    mpc_tile tile[MOST_VECTORS];
    int vectors, rows, lanes;
    int word;  /* bytes of a word */
    int pairs; /* the panel holds two rows, word by word; depth counts pairs */
};

const struct mpc_tiles *mpc_matmul_tiles(int level, int bits);

/* A block of B: `depth` rows of `columns` words, of which the first is at `data`. */
struct mpc_block {
    const char *data;
    const char *end;              /* nothing at or behind it may be read */
    int64_t row, column;          /* bytes from a word to the next below, and to the next beside it */
    int bytes;                    /* of a word as stored; a word of 3, 5, 6 or 7 bytes is unsigned */
    int64_t depth, columns;
};

/* Lay a block out as tiles read it: rows of `width` words, zero behind the last column; in pairs if `tiles` wants that. */
void mpc_matmul_pack(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                     void *panel);

/* The same with AVX-512; nonzero if it did nothing, because the level or the layout is another. */
int mpc_matmul_pack512(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel);

#endif
