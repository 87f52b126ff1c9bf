/* Laying out panels of B for the tiles. A word of B is packed once for up to 256 rows of A. */

#include "matmul_digits.h"
#include "words.h"

/* One row of the panel from words that lie side by side. */
#define ROW(type)                                                                                                      \
    do {                                                                                                               \
        const type *x = (const type *)from;                                                                            \
        type *y = (type *)to;                                                                                          \
        for (int64_t j = 0; j < columns; j++)                                                                          \
            y[j] = x[j];                                                                                               \
        for (int64_t j = columns; j < width; j++)                                                                      \
            y[j] = 0;                                                                                                  \
    } while (0)

MPC_INLINE void rows_body(const struct mpc_block *block, int word, int64_t width, void *panel)
{
    int64_t columns = block->columns;
    for (int64_t k = 0; k < block->depth; k++) {
        const char *from = block->data + k * block->row;
        char *to = (char *)panel + k * width * word;
        if (word == 8)
            ROW(word64);
        else if (word == 4)
            ROW(word32);
        else
            ROW(word16);
    }
}

MPC_CLONES(rows, (const struct mpc_block *block, int word, int64_t width, void *panel), (block, word, width, panel))

/* Two rows of 16-bit words side by side, word by word; an odd last row goes with zeros. */
MPC_INLINE void pairs_body(const struct mpc_block *block, int64_t width, void *panel)
{
    word32 *to = panel;
    for (int64_t k = 0; k < block->depth; k += 2, to += width) {
        const word16 *first = (const word16 *)(block->data + k * block->row);
        const word16 *second = (const word16 *)(block->data + (k + 1) * block->row);
        if (k + 1 < block->depth)
            for (int64_t j = 0; j < block->columns; j++)
                to[j] = first[j] | (uint32_t)second[j] << 16;
        else
            for (int64_t j = 0; j < block->columns; j++)
                to[j] = first[j];
        for (int64_t j = block->columns; j < width; j++)
            to[j] = 0;
    }
}

MPC_CLONES(pairs, (const struct mpc_block *block, int64_t width, void *panel), (block, width, panel))

/* One row of the panel from packed words of fewer bytes. */
#define WIDEN(type)                                                                                                    \
    do {                                                                                                               \
        type *y = (type *)to;                                                                                          \
        for (int64_t j = 0; j < block->columns; j++)                                                                   \
            y[j] = (type)mpc_any_word(from + j * block->bytes, block->end, block->bytes);                              \
        for (int64_t j = block->columns; j < width; j++)                                                               \
            y[j] = 0;                                                                                                  \
    } while (0)

static void widen(const struct mpc_block *block, int word, int64_t width, char *to)
{
    const char *from = block->data;
    for (int64_t k = 0; k < block->depth; k++, from += block->row, to += width * word) {
        if (word == 8)
            WIDEN(word64);
        else
            WIDEN(word32);
    }
}

/* Any layout, word by word. */
static void scatter(const struct mpc_block *block, const struct mpc_tiles *tiles, int64_t width, char *panel)
{
    int64_t rows = block->depth + (tiles->pairs ? block->depth & 1 : 0);
    memset(panel, 0, (size_t)(rows * width * tiles->word));
    for (int64_t j = 0; j < block->columns; j++) {
        const char *from = block->data + j * block->column;
        for (int64_t k = 0; k < block->depth; k++, from += block->row) {
            int64_t at = tiles->pairs ? ((k >> 1) * width + j) * 2 + (k & 1) : k * width + j;
            memcpy(panel + at * tiles->word, from, (size_t)tiles->word);
        }
    }
}

void mpc_matmul_pack(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                     void *panel)
{
    int beside = block->column == block->bytes;
    if (tiles->digits) {
        mpc_matmul_digit_panel(tiles->digits, block, width, panel);
        return;
    }
    if (!mpc_matmul_pack512(level, tiles, block, width, panel) ||
        !mpc_matmul_pack256(level, tiles, block, width, panel))
        return;
    if (!beside)
        scatter(block, tiles, width, panel);
    else if (block->bytes < tiles->word)
        widen(block, tiles->word, width, panel);
    else if (tiles->pairs)
        MPC_PICK(pairs, level)(block, width, panel);
    else
        MPC_PICK(rows, level)(block, tiles->word, width, panel);
}
