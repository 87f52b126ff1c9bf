/* Panels of B with AVX2: from packed words. */

#include "matmul_panel.h"

#if MPC_X86

/* The permutation that makes packed words of `bytes` bytes words of `word` bytes, as many as fill 16 bytes. */
MPC_INLINE MPC_TARGET_AVX2 __m128i places(int word, int64_t bytes)
{
    int8_t from[16];
    for (int i = 0; i < 16; i++)
        from[i] = (int8_t)(i % word < bytes ? i / word * bytes + i % word : -1);
    return _mm_loadu_si128((const __m128i *)from);
}

MPC_TARGET_AVX2 static void widen(const struct mpc_block *block, int word, int64_t width, char *panel)
{
    int64_t lanes = 16 / word, bytes = block->bytes;
    __m128i spread = places(word, bytes);
    for (int64_t k = 0; k < block->depth; k++) {
        const char *from = block->data + k * block->row;
        for (int64_t j = 0; j < width; j += lanes, from += lanes * bytes, panel += 16) {
            int64_t left = mpc_min(lanes, block->columns - j) * bytes;
            __m128i packed = _mm_setzero_si128();
            if (left == lanes * bytes && block->end - from >= 16)
                packed = _mm_loadu_si128((const __m128i *)from);
            else if (left > 0)
                memcpy(&packed, from, (size_t)left);
            _mm_store_si128((__m128i *)panel, _mm_shuffle_epi8(packed, spread));
        }
    }
}

int mpc_matmul_pack256(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel)
{
    if (level < MPC_AVX2 || block->column != block->bytes || block->bytes >= tiles->word)
        return 1;
    widen(block, tiles->word, width, panel);
    return 0;
}

#else

int mpc_matmul_pack256(int level, const struct mpc_tiles *tiles, const struct mpc_block *block, int64_t width,
                       void *panel)
{
    (void)level, (void)tiles, (void)block, (void)width, (void)panel;
    return 1;
}

#endif
