/* Panels: blocks of the right operand, laid out as tiles read them. */

#ifndef MPCNET_MATMUL_PANEL_H
#define MPCNET_MATMUL_PANEL_H

#include "matmul_tiles.h"
#include "product.h"

/* A block of B: `depth` rows of `columns` words, of which the first is at `data`. */
struct mpc_block {
    const char *data;
    const char *end;     /* nothing at or behind it may be read */
    int64_t row, column; /* bytes from a word to the one below, and to the one beside it */
    int bytes;           /* of a word as stored; words of 3, 5, 6 or 7 bytes are unsigned */
    int64_t depth, columns;
};

/* Rows k.. and columns j.. of the right operand of a term. The block must lie in one strip, and not in planes. */
MPC_INLINE struct mpc_block mpc_block_of(const struct mpc_part *part, int64_t term, int64_t k, int64_t depth, int64_t j,
                                         int64_t columns)
{
    const struct mpc_operand *b = &part->product->term[term].b;
    struct mpc_block block = {NULL, b->end, b->row, b->column, (int)b->bytes, depth, columns};
    if (b->layout != MPC_ROWS) {
        int64_t first = j / MPC_STRIP * MPC_STRIP, whole = part->product->term[term].depth;
        block.row = mpc_min(MPC_STRIP, part->product->columns - first) * b->bytes;
        block.data = part->b[term] + first * whole * b->bytes + k * block.row + (j - first) * b->bytes;
    } else
        block.data = part->b[term] + k * b->row + j * b->column;
    return block;
}

/* A little-endian word of `bytes` bytes. Eight bytes are read at once where `end` allows. */
MPC_INLINE uint64_t mpc_any_word(const char *from, const char *end, int bytes)
{
    uint64_t word = 0;
    if (end - from >= 8) {
        memcpy(&word, from, 8);
        return word & mpc_mask(8 * bytes);
    }
    memcpy(&word, from, (size_t)bytes);
    return word;
}

/* Lays a block out as a panel: rows of `width` words with zeros behind the last column; pairs or digits of them if
 * `tiles` wants those. */
void mpc_matmul_pack(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                     void *panel);

/* The same with AVX-512 or AVX2. Return nonzero, and do nothing, for levels and layouts that they do not cover. */
int mpc_matmul_pack512(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel);
int mpc_matmul_pack256(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel);

#endif
