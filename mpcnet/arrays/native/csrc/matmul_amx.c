/* Matrix products by the tile registers of AMX, which multiply bytes: 16 x 16 sums of 64 products each in 16 cycles.
 *
 * A word is the sum of its bytes x_i 2^8i, so a b = sum over s of 2^8s d_s with d_s = sum over i + j = s of a_i b_j. A
 * ring of L bytes needs s < L only: L (L + 1) / 2 products of matrices of bytes. Each d_s has its own tile of 32-bit sums;
 * bits above the ring are dropped. That is 21 products for 48 bits, which take half of the cycles of vpmadd52luq.
 *
 * Both operands are split into planes, one for each byte of a word (matmul_amx_planes.h): A for each product, and B too
 * unless it is in planes already (MPC_PLANES).
 */

#include "amx.h"
#include "matmul_panel.h"

#include <stdlib.h>

#if MPC_HAS_AMX

#include "matmul_amx_passes.h"
#include "matmul_amx_planes.h"

enum {
    BLOCK = 128,    /* rows of A that are split at a time */
    LEAST_ROWS = 8, /* of A: with fewer, a tile takes as long as if it were full */
};

/* Buffers of one thread. */
struct room {
    uint8_t a[MPC_MOST_TERMS][BLOCK / SIDE * PLANES * TILE] __attribute__((aligned(64)));
    uint8_t b[MPC_STRIP / SIDE * PLANES * TILE] __attribute__((aligned(64)));
    char panel[STEP * MPC_STRIP * 8] __attribute__((aligned(64)));
    uint32_t sums[MOST_LIMBS][SIDE][SIDE] __attribute__((aligned(64)));
};

/* Rows of A. */
MPC_TARGET_AMX static void left(const char *from, int64_t stride, int64_t rows, int64_t depth, int word, int limbs,
                                uint8_t *to)
{
    struct spread spread;
    spread_of(word, &spread);
    if (limbs > 4)
        left_body(&spread, from, stride, rows, depth, limbs, to, 1);
    else
        left_body(&spread, from, stride, rows, depth, limbs, to, 0);
}

/* A strip of B. Transposed words are laid out in rows first. */
MPC_TARGET_AMX static void right(const struct mpc_block *block, int word, int limbs, char *panel, uint8_t *to)
{
    const struct mpc_tiles words = {.word = word};
    int64_t steps = (block->depth + STEP - 1) / STEP;
    int plain = block->column == block->bytes;
    struct spread spread;
    spread_of(plain ? block->bytes : word, &spread);
    struct mpc_block step = *block;
    for (int64_t k = 0; k < steps; k++, step.data += STEP * block->row) {
        step.depth = mpc_min(STEP, block->depth - k * STEP);
        if (!plain)
            mpc_matmul_pack(MPC_AMX, &words, &step, MPC_STRIP, panel);
        const char *from = plain ? step.data : panel;
        int64_t stride = plain ? block->row : MPC_STRIP * word;
        for (int64_t j = 0; j < block->columns; j += SIDE) {
            uint8_t *tile = to + (j / SIDE * steps + k) * limbs * TILE;
            const char *at = from + j * spread.bytes;
            if (limbs > 4)
                right_tile(&spread, at, stride, step.depth, block->columns - j, limbs, tile, 1);
            else
                right_tile(&spread, at, stride, step.depth, block->columns - j, limbs, tile, 0);
        }
    }
}

/* What will be read next: while tiles are multiplied, it comes to the second-level cache, a line with each product. */
struct ahead {
    const char *line, *end;
};

/* How many rows of columns j.. of a term are in planes. */
static int64_t split_rows(const struct mpc_product *product, int64_t t, int64_t j)
{
    int planes = product->term[t].b.layout == MPC_PLANES && product->columns - j >= MPC_STRIP;
    return planes ? product->term[t].depth / STEP * STEP : 0;
}

/* Where tiles of rows k.. of the strip at column j begin, if they are in planes: those of its first 16 columns. */
static const uint8_t *tiles_of(const struct mpc_part *part, const struct split *split, int64_t t, int64_t k, int64_t j)
{
    int64_t before = strip_bytes(part->product->term[t].depth, split->limbs) * (j / MPC_STRIP);
    return (const uint8_t *)part->b[t] + before + k / STEP * split->limbs * TILE;
}

/* The strip behind that of columns j.. of term t: of the next term, or the next columns. */
static struct ahead ahead_of(const struct mpc_part *part, const struct split *split, int64_t t, int64_t k, int64_t j)
{
    const struct mpc_product *product = part->product;
    int64_t next = t + 1 < product->terms ? t + 1 : 0, at = next ? j : j + MPC_STRIP;
    int64_t depth = mpc_min(split->depth, product->term[next].depth - k);
    if (at >= part->last || depth <= 0 || product->term[next].b.layout == MPC_ROWS)
        return (struct ahead){NULL, NULL};
    if (split_rows(product, next, at)) {
        const char *tiles = (const char *)tiles_of(part, split, next, k, at);
        return (struct ahead){tiles, tiles + depth * SIDE * split->limbs};
    }
    const struct mpc_block block = mpc_block_of(part, next, k, depth, at, MPC_STRIP);
    return (struct ahead){block.data, block.data + depth * block.row};
}

#define CASE(s)                                                                                                        \
    case s:                                                                                                            \
        MPC_MULTIPLY_TILES(s)                                                                                          \
        break;
#define STORE(s)                                                                                                       \
    if (pass->first + s <= pass->last)                                                                                 \
        _tile_stored(s, sums[pass->first + s], STEP);

/* The sums of a pass: `steps` tiles of A by as many of B. */
MPC_TARGET_AMX static void multiply(const struct pass *pass, const uint8_t *a, const uint8_t *b, int64_t steps, int limbs,
                                    uint32_t (*sums)[SIDE][SIDE], struct ahead *ahead)
{
    MPC_EACH_SUM(MPC_CLEAR_TILE)
    for (int64_t k = 0; k < steps; k++, a += limbs * TILE, b += limbs * TILE)
        for (int p = 0, left = -1, right = -1; p < pass->count; p++) {
            if (ahead->line < ahead->end) {
                __builtin_prefetch(ahead->line, 0, 2);
                ahead->line += 64;
            }
            if (left != pass->pair[p].a)
                MPC_LOAD_LEFT(a + (left = pass->pair[p].a) * TILE);
            if (right != pass->pair[p].b)
                MPC_LOAD_RIGHT(b + (right = pass->pair[p].b) * TILE);
            switch (pass->pair[p].sum) { MPC_EACH_SUM(CASE) }
        }
    MPC_EACH_SUM(STORE)
}

MPC_INLINE MPC_TARGET_AMX __m512i add(const void *from, __mmask8 here, __m512i sum, int negative)
{
    __m512i start = from ? _mm512_maskz_loadu_epi64(here, from) : _mm512_setzero_si512();
    return negative ? _mm512_sub_epi64(start, sum) : _mm512_add_epi64(start, sum);
}

/* A row of a tile: to = from +- the sum of 2^8s sums[s], for the columns that are `here`. */
MPC_INLINE MPC_TARGET_AMX void add_row(const uint32_t (*sums)[SIDE][SIDE], int row, int limbs, int word, __mmask16 here,
                                       int negative, const char *from, char *to)
{
    int low = limbs > 4 ? limbs - 4 : 0; /* from this byte on, 32 bits reach to the end of the ring */
    __m512i top = _mm512_setzero_si512();
    for (int s = limbs - 1; s >= low; s--)
        top = _mm512_add_epi32(_mm512_slli_epi32(top, 8), _mm512_load_si512(sums[s][row]));
    if (word == 8) {
        __m512i first = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(top));
        __m512i second = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(top, 1));
        for (int s = low - 1; s >= 0; s--) {
            __m512i sum = _mm512_load_si512(sums[s][row]);
            first = _mm512_add_epi64(_mm512_slli_epi64(first, 8), _mm512_cvtepu32_epi64(_mm512_castsi512_si256(sum)));
            second = _mm512_add_epi64(_mm512_slli_epi64(second, 8),
                                      _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sum, 1)));
        }
        _mm512_mask_storeu_epi64(to, (__mmask8)here, add(from, (__mmask8)here, first, negative));
        _mm512_mask_storeu_epi64(to + 64, (__mmask8)(here >> 8),
                                 add(from ? from + 64 : NULL, (__mmask8)(here >> 8), second, negative));
    } else if (word == 4) {
        __m512i start = from ? _mm512_maskz_loadu_epi32(here, from) : _mm512_setzero_si512();
        _mm512_mask_storeu_epi32(to, here, negative ? _mm512_sub_epi32(start, top) : _mm512_add_epi32(start, top));
    } else {
        __m256i start = from ? _mm256_maskz_loadu_epi16(here, from) : _mm256_setzero_si256();
        __m256i sum = _mm512_cvtepi32_epi16(top);
        _mm256_mask_storeu_epi16(to, here, negative ? _mm256_sub_epi16(start, sum) : _mm256_add_epi16(start, sum));
    }
}

/* Tiles of both operands: of 16 rows or columns, so many for each of `steps` of the depth, and then of the next 16. */
struct tiles {
    const uint8_t *a, *b;
    int64_t next_a, next_b; /* bytes from one 16 to the next */
    int64_t steps;
    int near; /* those of B have just been written */
};

/* They are multiplied, and added to rows i.. and columns j.. of C; from `first` on nothing has been added yet. */
MPC_TARGET_AMX static void strip(const struct mpc_part *part, const struct split *split, const struct tiles *tiles,
                                 int64_t index, int first, int64_t i, int64_t j, struct ahead ahead,
                                 uint32_t (*sums)[SIDE][SIDE])
{
    const struct mpc_product *product = part->product;
    int word = split->word, limbs = split->limbs, negative = (int)product->term[index].negative;
    int64_t rows = mpc_min(BLOCK, product->rows - i), columns = mpc_min(MPC_STRIP, part->last - j);
    for (int64_t side = 0; side < columns; side += SIDE) {
        const uint8_t *b = tiles->b + side / SIDE * tiles->next_b, *next = b + tiles->next_b;
        struct ahead beside = {(const char *)next, (const char *)next + tiles->steps * limbs * TILE};
        struct ahead *wanted = tiles->near || side + SIDE >= columns ? &ahead : &beside;
        for (int64_t r = 0; r < rows; r += SIDE) {
            for (int p = 0; p < split->passes; p++)
                multiply(&split->pass[p], tiles->a + r / SIDE * tiles->next_a, b, tiles->steps, limbs, sums, wanted);
            __mmask16 here = (__mmask16)((1 << mpc_min(SIDE, columns - side)) - 1);
            for (int64_t q = 0; q < mpc_min(SIDE, rows - r); q++) {
                int64_t at = ((i + r + q) * product->columns + j + side) * word;
                const char *from = !first ? part->out + at : part->c ? part->c + at : NULL;
                add_row((const void *)sums, (int)q, limbs, word, here, negative, from, part->out + at);
            }
        }
    }
}

/* Rows i.. and columns j.. of the part, for one term and a stretch of its depth: what is in planes, and what is in words. */
MPC_TARGET_AMX static void term(const struct mpc_part *part, const struct split *split, struct room *room, int64_t t,
                                int64_t i, int64_t k, int64_t j)
{
    const struct mpc_product *product = part->product;
    int64_t depth = mpc_min(split->depth, product->term[t].depth - k), steps = (depth + STEP - 1) / STEP;
    int64_t rows = split_rows(product, t, j), ready = rows > k ? mpc_min(depth, rows - k) : 0;
    int64_t tile = split->limbs * TILE;
    struct ahead ahead = ahead_of(part, split, t, k, j);
    if (ready) {
        const uint8_t *b = tiles_of(part, split, t, k, j);
        const struct tiles tiles = {room->a[t], b, steps * tile, rows / STEP * tile, ready / STEP, 0};
        strip(part, split, &tiles, t, !t && !k, i, j, ahead, room->sums);
    }
    if (ready < depth) {
        const struct mpc_block block =
            mpc_block_of(part, t, k + ready, depth - ready, j, mpc_min(MPC_STRIP, part->last - j));
        int64_t left_steps = steps - ready / STEP;
        const uint8_t *a = room->a[t] + ready / STEP * tile;
        const struct tiles tiles = {a, room->b, steps * tile, left_steps * tile, left_steps, 1};
        right(&block, split->word, split->limbs, room->panel, room->b);
        strip(part, split, &tiles, t, !t && !k && !ready, i, j, ahead, room->sums);
    }
}

/* Rows i.. of the part, for a stretch of the depth. */
MPC_TARGET_AMX static void stretch(const struct mpc_part *part, const struct split *split, struct room *room, int64_t i,
                                   int64_t k)
{
    const struct mpc_product *product = part->product;
    int64_t rows = mpc_min(BLOCK, product->rows - i);
    for (int64_t t = 0; t < product->terms; t++)
        if (k < product->term[t].depth)
            left(part->a[t] + i * product->term[t].a.row + k * split->word, product->term[t].a.row, rows,
                 mpc_min(split->depth, product->term[t].depth - k), split->word, split->limbs, room->a[t]);
    for (int64_t j = part->first; j < part->last; j += MPC_STRIP)
        for (int64_t t = 0; t < product->terms; t++)
            if (k < product->term[t].depth)
                term(part, split, room, t, i, k, j);
}

int mpc_matmul_amx_fits(const struct mpc_product *product)
{
    int fits = product->rows >= LEAST_ROWS;
    for (int64_t t = 0; t < product->terms; t++) {
        if (product->term[t].b.layout == MPC_PLANES)
            return 1;
        if (mpc_word(product->bits) == 2 && product->term[t].b.column != 2)
            fits = 0; /* mpc_matmul_pack lays out words of 2 bytes in pairs, if they are transposed */
    }
    return fits;
}

MPC_TARGET_AMX int mpc_matmul_amx(const struct mpc_part *part)
{
    const struct mpc_product *product = part->product;
    const struct split split = split_of(product->bits);
    int64_t depth = 0;
    for (int64_t t = 0; t < product->terms; t++)
        depth = product->term[t].depth > depth ? product->term[t].depth : depth;
    struct room *room = aligned_alloc(64, sizeof *room);
    if (!room)
        return MPC_NO_MEMORY;
    const struct mpc_tile_sizes sizes = mpc_whole_tiles();
    _tile_loadconfig(&sizes);
    for (int64_t i = 0; i < product->rows; i += BLOCK)
        for (int64_t k = 0; k < depth; k += split.depth)
            stretch(part, &split, room, i, k);
    _tile_release();
    free(room);
    return MPC_DONE;
}

#else

int mpc_matmul_amx_fits(const struct mpc_product *product)
{
    (void)product;
    return 0;
}

int mpc_matmul_amx(const struct mpc_part *part)
{
    (void)part;
    return MPC_NO_MEMORY;
}

#endif
