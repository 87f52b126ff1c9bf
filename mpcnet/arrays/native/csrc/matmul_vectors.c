/* Matrix products by the tiles of matmul_tiles.c: words are multiplied whole, in vector registers.
 *
 * The order of the loops is that of Goto and van de Geijn, Anatomy of high-performance matrix multiplication (2008): a
 * block of A stays in the second-level cache, a panel of B in the first, and the sums of a tile in registers.
 */

#include "matmul_digits.h"

#include <stdlib.h>

enum {
    DEPTH = 192,          /* rows of a panel of B: 24 columns of 8 bytes take 36 KB */
    BLOCK = 256,          /* rows of a block of A: 400 KB at this depth */
    WIDE = 256,           /* from so many columns on, copying A into a compact block pays */
    STRIDE = DEPTH + 16,  /* words between rows of that copy: not a power of two, which would crowd few sets of a cache */
    KEPT = 384 << 10,     /* bytes of C that stay in the second-level cache while all of the depth is added to them */
    LINES = 4,            /* of a cache, at most, that a row of a panel touches */
};

/* Buffers of one thread. */
struct room {
    char block[BLOCK * STRIDE * 8];
    char panel[DEPTH * MOST_VECTORS * MOST_LANES * 4] __attribute__((aligned(64)));
    char edge[MOST_ROWS * MOST_VECTORS * MOST_LANES * 4] __attribute__((aligned(64)));
};

struct work {
    const struct mpc_part *part;
    const struct mpc_tiles *tiles;
    int level;
    struct room *room;
};

/* Rows of a panel. */
static int64_t depth_of(const struct mpc_tiles *tiles) { return tiles->digits ? MPC_DIGITS_DEPTH : DEPTH; }

static void copy_block(const char *from, int64_t stride, int64_t rows, int64_t depth, int word, char *to)
{
    for (int64_t i = 0; i < rows; i++, from += stride, to += STRIDE * word) {
        memcpy(to, from, (size_t)(depth * word));
        memset(to + depth * word, 0, (size_t)word); /* the other half of an odd last pair */
    }
}

#define EDGE(type)                                                                                                     \
    do {                                                                                                               \
        const type *x = (const type *)from, *y = (const type *)sum;                                                    \
        type *z = (type *)to;                                                                                          \
        for (int64_t i = 0; i < rows; i++)                                                                             \
            for (int64_t j = 0; j < columns; j++) {                                                                    \
                type add = y[i * width + j], start = x ? x[i * stride + j] : 0;                                        \
                z[i * stride + j] = (type)(negative ? start - add : start + add);                                      \
            }                                                                                                          \
    } while (0)

/* Add the part of a tile that lies inside of C. */
static void add_edge(int word, const void *sum, int64_t width, const void *from, void *to, int64_t stride, int64_t rows,
                     int64_t columns, int negative)
{
    if (word == 8)
        EDGE(uint64_t);
    else if (word == 4)
        EDGE(uint32_t);
    else
        EDGE(uint16_t);
}

/* C[rows, j..j + columns) = from +- a panel, tile by tile. */
static void multiply(const struct work *work, const char *a, int64_t a_stride, int64_t rows, int64_t depth,
                     int64_t columns, int64_t width, const char *from, char *to, int negative, const char *ahead,
                     int64_t ahead_row)
{
    const struct mpc_tiles *tiles = work->tiles;
    mpc_tile tile = tiles->tile[width / tiles->lanes - 1];
    int64_t stride = work->part->product->columns, word = tiles->word;
    int64_t steps = tiles->pairs ? (depth + 1) / 2 : depth;
    for (int64_t i = 0; i < rows; i += tiles->rows) {
        int64_t height = mpc_min(tiles->rows, rows - i), at = i * stride * word;
        int64_t number = i / tiles->rows, row = number / LINES; /* of the panel ahead: each tile fetches a line of all rows */
        const char *line = row < 1 + tiles->pairs ? ahead + row * ahead_row + 64 * (number % LINES) : a;
        int64_t step = row < 1 + tiles->pairs ? ahead_row << tiles->pairs : 0;
        const char *start = from ? from + at : NULL;
        if (height == tiles->rows && columns == width) {
            tile(steps, a + i * a_stride * word, a_stride, (int)height, work->room->panel, start, to + at, stride,
                 negative, line, step);
            continue;
        }
        tile(steps, a + i * a_stride * word, a_stride, (int)height, work->room->panel, NULL, work->room->edge, width, 0,
             line, step);
        add_edge((int)word, work->room->edge, width, start, to + at, stride, height, columns, negative);
    }
}

/* Rows i.. of columns first..last, for one term and one stretch of its depth. */
static void stretch(const struct work *work, int64_t i, int64_t rows, int64_t first, int64_t last, int64_t index,
                    int64_t k)
{
    const struct mpc_part *part = work->part;
    const struct mpc_product *product = part->product;
    const struct mpc_term *term = &product->term[index];
    const struct mpc_tiles *tiles = work->tiles;
    int64_t depth = mpc_min(depth_of(tiles), term->depth - k), word = tiles->word;
    const char *a = part->a[index] + i * term->a.row + k * word;
    int64_t a_stride = term->a.row / word;
    if (tiles->pairs || last - first >= WIDE) {
        if (tiles->digits)
            mpc_matmul_digit_rows(tiles->digits, a, term->a.row, rows, depth, STRIDE, work->room->block);
        else
            copy_block(a, term->a.row, rows, depth, (int)word, work->room->block);
        a = work->room->block;
        a_stride = STRIDE;
    }
    for (int64_t j = first; j < last;) {
        int64_t columns = mpc_min(last - j, tiles->vectors * tiles->lanes);
        int64_t width = (columns + tiles->lanes - 1) / tiles->lanes * tiles->lanes;
        const struct mpc_block block = mpc_block_of(part, index, k, depth, j, columns);
        int64_t at = (i * product->columns + j) * word;
        const char *from = index || k ? part->out + at : part->c ? part->c + at : NULL;
        mpc_matmul_pack(work->level, tiles, &block, width, work->room->panel);
        j += columns;
        const struct mpc_block ahead = mpc_block_of(part, index, k, depth, j, columns);
        multiply(work, a, a_stride, rows, depth, columns, width, from, part->out + at, (int)term->negative, ahead.data,
                 ahead.row);
    }
}

/* Rows i.. of the share: some panels at a time, so that their part of C stays close. */
static void strip(const struct work *work, int64_t i, int64_t rows)
{
    const struct mpc_part *part = work->part;
    const struct mpc_product *product = part->product;
    int64_t panel = work->tiles->vectors * work->tiles->lanes;
    int64_t panels = KEPT / (rows * panel * work->tiles->word), wide = (panels > 4 ? panels : 4) * panel;
    for (int64_t j = part->first; j < part->last; j += wide)
        for (int64_t t = 0; t < product->terms; t++)
            for (int64_t k = 0; k < product->term[t].depth; k += depth_of(work->tiles))
                stretch(work, i, rows, j, mpc_min(j + wide, part->last), t, k);
}

int mpc_matmul_vectors(int level, const struct mpc_part *part)
{
    const struct mpc_product *product = part->product;
    struct work work = {part, mpc_matmul_tiles(level, (int)product->bits), level, aligned_alloc(64, sizeof(struct room))};
    if (!work.room)
        return MPC_NO_MEMORY;
    for (int64_t i = 0; i < product->rows; i += BLOCK)
        strip(&work, i, mpc_min(BLOCK, product->rows - i));
    free(work.room);
    return MPC_DONE;
}
