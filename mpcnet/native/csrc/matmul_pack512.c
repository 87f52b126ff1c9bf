/* Panels of B from a transposed matrix, and from packed words, with AVX-512. */

#include "matmul.h"

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
    for (int64_t k = 0; k < block->depth; k++)
        for (int64_t j = 0; j < width; j += lanes, panel += 64) {
            int64_t count = mpc_min(lanes, block->columns - j) * bytes;
            __m512i packed = first_bytes(block->data + k * block->row + j * bytes, count < lanes * bytes ? count : lanes * bytes);
            _mm512_store_si512(panel, _mm512_maskz_permutexvar_epi8(used, spread, packed));
        }
}

int mpc_matmul_pack512(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel)
{
    if (level >= MPC_AVX512 && block->bytes == tiles->word && block->row == block->bytes) {
        if (tiles->word == 8)
            transposed64(block, width, panel);
        else
            transposed32(block, width, panel);
        return 0;
    }
    if (level >= MPC_AVX512IFMA && block->bytes < tiles->word && block->column == block->bytes) {
        widen(block, tiles->word, width, panel);
        return 0;
    }
    return 1;
}

#else

int mpc_matmul_pack512(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel)
{
    (void)level, (void)tiles, (void)block, (void)width, (void)panel;
    return 1;
}

#endif
