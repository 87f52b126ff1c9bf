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
    int word;   /* bytes of a word */
    int pairs;  /* the panel holds two rows, word by word; depth counts pairs */
    int digits; /* A and the panel hold digits of such pairs, for rings of up to so many bits (matmul_digits.c) */
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

/* Lay a block out as tiles read it: rows of `width` words, zero behind the last column; in pairs if `tiles` wants that. */
void mpc_matmul_pack(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                     void *panel);

/* The same with AVX-512, or AVX2; nonzero if it did nothing, because the level or the layout is another. */
int mpc_matmul_pack512(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel);
int mpc_matmul_pack256(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel);

enum { MPC_MOST_BATCH = 4, MPC_MOST_TERMS = 2 };

/* Columns of a strip: whole tiles of every kind. */
enum { MPC_STRIP = 48 };

/* How words lie. In rows: wherever the strides say. In strips: the first MPC_STRIP columns first, row by row and nothing
 * between the words, then the next ones; the last may be fewer. In planes: likewise, but what fills whole tiles of a whole
 * strip is split into planes of bytes already (matmul_amx.c), in as many bytes; rows that are left follow it as words. */
enum mpc_layout { MPC_ROWS, MPC_STRIPS, MPC_PLANES };

/* A batch of matrices; strides are in bytes, those of the batch zero where it is broadcast. */
struct mpc_operand {
    const char *data, *end; /* nothing at or behind `end` may be read */
    int64_t batch[MPC_MOST_BATCH];
    int64_t row, column;
    int64_t bytes; /* of a stored word */
    int64_t layout; /* other than in rows: whatever `row` and `column` say */
};

struct mpc_term {
    struct mpc_operand a, b;
    int64_t depth, negative;
};

/* What Python passes: an array of 64-bit integers reads as this. `c` (or NULL) and `out` are contiguous:
 * [batch..., rows, columns] words. */
struct mpc_product {
    const char *c;
    char *out;
    int64_t batch[MPC_MOST_BATCH];
    int64_t rows, columns, bits, terms;
    struct mpc_term term[MPC_MOST_TERMS];
};

/* One matrix of the batch, or a share of its columns, with the operands of its terms. */
struct mpc_part {
    const struct mpc_product *product;
    const char *a[MPC_MOST_TERMS], *b[MPC_MOST_TERMS], *c;
    char *out;
    int64_t first, last; /* columns */
};

/* Bytes of a word of such a ring. */
MPC_INLINE int mpc_word(int64_t bits) { return bits > 32 ? 8 : bits > 16 ? 4 : 2; }

/* Rows k.. and columns j.. of the right operand of a term, which must not reach into another strip, nor into planes. */
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

/* Each computes a part; MPC_NO_MEMORY without room for buffers. */
int mpc_matmul_vectors(int level, const struct mpc_part *part);
int mpc_matmul_amx(const struct mpc_part *part);

/* Whether the second is the faster one for this product, at the level of AMX, or the only one. */
int mpc_matmul_amx_fits(const struct mpc_product *product);

#endif
