/* Panels of B with AVX-512: from words side by side, from a transposed matrix, and from packed words. */

#include "matmul_panel.h"

#if MPC_X86

/* The `count` bytes at `from`, zeros behind. */
MPC_INLINE MPC_TARGET_AVX512 __m512i first_bytes(const char *from, int64_t count)
{
    if (count >= 64)
        return _mm512_loadu_si512(from);
    return count <= 0 ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi8(((__mmask64)1 << count) - 1, from);
}

/* Rows x[0..8) become columns: 64-bit words. */
MPC_INLINE MPC_TARGET_AVX512 void transpose8(__m512i x[8])
{
    __m512i y[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm512_unpacklo_epi64(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 2; i++) { /* 128-bit quarters: a 4 x 4 transposition */
        __m512i a = _mm512_shuffle_i64x2(y[i], y[i + 2], 0x88), b = _mm512_shuffle_i64x2(y[i], y[i + 2], 0xDD);
        __m512i c = _mm512_shuffle_i64x2(y[i + 4], y[i + 6], 0x88), d = _mm512_shuffle_i64x2(y[i + 4], y[i + 6], 0xDD);
        x[i] = _mm512_shuffle_i64x2(a, c, 0x88);
        x[i + 2] = _mm512_shuffle_i64x2(b, d, 0x88);
        x[i + 4] = _mm512_shuffle_i64x2(a, c, 0xDD);
        x[i + 6] = _mm512_shuffle_i64x2(b, d, 0xDD);
    }
}

/* Rows x[0..16) become columns: 32-bit words. */
MPC_INLINE MPC_TARGET_AVX512 void transpose16(__m512i x[16])
{
    __m512i y[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) { /* x[i + q], by quarters: columns 4 quarter + q of rows i .. i + 3 */
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
#pragma GCC unroll 16
    for (int q = 0; q < 4; q++) {
        __m512i a = _mm512_shuffle_i32x4(x[q], x[q + 4], 0x88), b = _mm512_shuffle_i32x4(x[q], x[q + 4], 0xDD);
        __m512i c = _mm512_shuffle_i32x4(x[q + 8], x[q + 12], 0x88), d = _mm512_shuffle_i32x4(x[q + 8], x[q + 12], 0xDD);
        y[q] = _mm512_shuffle_i32x4(a, c, 0x88);
        y[q + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        y[q + 8] = _mm512_shuffle_i32x4(a, c, 0xDD);
        y[q + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        x[i] = y[i];
}

/* A matrix whose columns are stored side by side: words of 4 bytes, pairs of 2, or words of 8. */
#define TRANSPOSED(name, lanes, transpose)                                                                             \
    MPC_TARGET_AVX512 static void name(const struct mpc_block *block, int64_t width, char *panel)                      \
    {                                                                                                                  \
        enum { SIZE = 64 / lanes };                                                                                    \
        int64_t bytes = block->depth * block->bytes, steps = (bytes + SIZE - 1) / SIZE;                                \
        for (int64_t j = 0; j < width; j += lanes)                                                                     \
            for (int64_t k = 0; k < steps; k += lanes) {                                                               \
                __m512i x[lanes];                                                                                      \
                _Pragma("GCC unroll 16") for (int i = 0; i < lanes; i++)                                               \
                    x[i] = first_bytes(block->data + (j + i) * block->column + k * SIZE,                               \
                                       j + i < block->columns ? bytes - k * SIZE : 0);                                 \
                transpose(x);                                                                                          \
                int64_t count = mpc_min(lanes, steps - k);                                                             \
                _Pragma("GCC unroll 16") for (int i = 0; i < lanes; i++) if (i < count)                                \
                    _mm512_store_si512(panel + ((k + i) * width + j) * SIZE, x[i]);                                    \
            }                                                                                                          \
    }

TRANSPOSED(transposed64, 8, transpose8)
TRANSPOSED(transposed32, 16, transpose16)

/* Packed words of `bytes` bytes: one permutation of bytes spreads as many as fill a vector. */
MPC_TARGET_AVX512IFMA static void widen(const struct mpc_block *block, int word, int64_t width, char *panel)
{
    uint8_t places[64];
    __mmask64 used = 0;
    int lanes = 64 / word, bytes = block->bytes;
    for (int i = 0; i < 64; i++) {
        places[i] = (uint8_t)(i / word * bytes + i % word);
        used |= (__mmask64)(i % word < bytes) << i;
    }
    __m512i spread = _mm512_loadu_si512(places);
    int64_t whole = lanes * bytes, safe = block->end - 64 - block->data;
    for (int64_t k = 0; k < block->depth; k++)
        for (int64_t j = 0; j < width; j += lanes, panel += 64) {
            int64_t at = k * block->row + j * bytes;
            __m512i packed = j + lanes <= block->columns && at <= safe
                                 ? _mm512_loadu_si512(block->data + at)
                                 : first_bytes(block->data + at, mpc_min(whole, (block->columns - j) * bytes));
            _mm512_store_si512(panel, _mm512_maskz_permutexvar_epi8(used, spread, packed));
        }
}

/* Two rows of 16-bit words side by side, word by word; an odd last row goes with zeros. */
MPC_TARGET_AVX512 static void pairs(const struct mpc_block *block, int64_t width, char *panel)
{
    for (int64_t k = 0; k < block->depth; k += 2)
        for (int64_t j = 0; j < width; j += 16, panel += 64) {
            const char *from = block->data + k * block->row + 2 * j;
            __mmask16 used = j + 16 <= block->columns ? 0xFFFF : (__mmask16)((1 << (block->columns - j)) - 1);
            __m256i first = _mm256_maskz_loadu_epi16(used, from), second = _mm256_setzero_si256();
            if (k + 1 < block->depth)
                second = _mm256_maskz_loadu_epi16(used, from + block->row);
            __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16);
            _mm512_store_si512(panel, _mm512_or_si512(_mm512_cvtepu16_epi32(first), high));
        }
}

/* Words of 4 or 8 bytes side by side. */
MPC_TARGET_AVX512 static void copied(const struct mpc_block *block, int64_t width, char *panel)
{
    for (int64_t k = 0; k < block->depth; k++)
        for (int64_t j = 0; j < width * block->bytes; j += 64, panel += 64)
            _mm512_store_si512(panel, first_bytes(block->data + k * block->row + j, block->columns * block->bytes - j));
}

int mpc_matmul_pack512(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel)
{
    int plain = block->bytes == tiles->word, beside = block->column == block->bytes;
    if (level < MPC_AVX512)
        return 1;
    if (plain && beside && tiles->pairs)
        pairs(block, width, panel);
    else if (plain && beside)
        copied(block, width, panel);
    else if (plain && block->row == block->bytes && tiles->word == 8)
        transposed64(block, width, panel);
    else if (plain && block->row == block->bytes)
        transposed32(block, width, panel);
    else if (!plain && beside && level >= MPC_AVX512IFMA)
        widen(block, tiles->word, width, panel);
    else
        return 1;
    return 0;
}

#else

int mpc_matmul_pack512(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel)
{
    (void)level, (void)tiles, (void)block, (void)width, (void)panel;
    return 1;
}

#endif
