/* Packing words of 3, 5, 6 or 7 bytes by permutations of bytes: within 16 bytes (AVX2) or 64 (AVX-512 VBMI). */

#include "packing.h"

#if MPC_X86

/* Byte i of packed words comes from byte tight[i] of stored ones; byte i of stored words from byte loose[i] of packed ones.
 * 0x80 stands for zero. `size` bytes of stored words. */
static void places(const struct mpc_run *run, int size, uint8_t *tight, uint8_t *loose)
{
    int packed = size / run->stored * run->width;
    for (int i = 0; i < size; i++) {
        int inside = i % run->stored;
        tight[i] = (uint8_t)(i < packed ? i / run->width * run->stored + i % run->width : 0x80);
        loose[i] = (uint8_t)(inside < run->width ? i / run->stored * run->width + inside : 0x80);
    }
}

MPC_INLINE MPC_TARGET_AVX2 __m256i sum256(__m256i a, __m256i b, int stored, int negative)
{
    if (stored == 8)
        return negative ? _mm256_sub_epi64(a, b) : _mm256_add_epi64(a, b);
    return negative ? _mm256_sub_epi32(a, b) : _mm256_add_epi32(a, b);
}

MPC_INLINE MPC_TARGET_AVX2 __m256i mask256(const struct mpc_run *run)
{
    return run->stored == 8 ? _mm256_set1_epi64x((int64_t)mpc_mask(run->bits))
                            : _mm256_set1_epi32((int32_t)mpc_mask(run->bits));
}

/* `half`: packed bytes of the words in 16 stored bytes. Sixteen are stored for each half, so the last words are left. */
MPC_TARGET_AVX2 static int64_t pack_avx2(const struct mpc_run *run, const char *a, const char *b, int negative, char *out)
{
    uint8_t tight[16], loose[16];
    places(run, 16, tight, loose);
    __m256i order = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)tight)), mask = mask256(run);
    int64_t lanes = 32 / run->stored, half = lanes / 2 * run->width, i = 0;
    const char *end = out + run->count * run->width;
    for (; i + lanes <= run->count && end - out >= half + 16; i += lanes, out += 2 * half) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(a + i * run->stored));
        if (b)
            x = sum256(x, _mm256_loadu_si256((const __m256i *)(b + i * run->stored)), run->stored, negative);
        x = _mm256_shuffle_epi8(_mm256_and_si256(x, mask), order);
        _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(x));
        _mm_storeu_si128((__m128i *)(out + half), _mm256_extracti128_si256(x, 1));
    }
    return i;
}

MPC_TARGET_AVX2 static int64_t unpack_avx2(const struct mpc_run *run, const char *raw, const char *mine, char *out)
{
    uint8_t tight[16], loose[16];
    places(run, 16, tight, loose);
    __m256i order = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)loose)), mask = mask256(run);
    int64_t lanes = 32 / run->stored, half = lanes / 2 * run->width, i = 0;
    const char *end = raw + run->count * run->width;
    for (; i + lanes <= run->count && end - raw >= half + 16; i += lanes, raw += 2 * half) {
        __m256i x = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)raw));
        x = _mm256_inserti128_si256(x, _mm_loadu_si128((const __m128i *)(raw + half)), 1);
        x = _mm256_shuffle_epi8(x, order);
        if (mine)
            x = sum256(x, _mm256_loadu_si256((const __m256i *)(mine + i * run->stored)), run->stored, 0);
        _mm256_storeu_si256((__m256i *)(out + i * run->stored), _mm256_and_si256(x, mask));
    }
    return i;
}

MPC_INLINE MPC_TARGET_AVX512IFMA __m512i sum512(__m512i a, __m512i b, int stored, int negative)
{
    if (stored == 8)
        return negative ? _mm512_sub_epi64(a, b) : _mm512_add_epi64(a, b);
    return negative ? _mm512_sub_epi32(a, b) : _mm512_add_epi32(a, b);
}

MPC_INLINE MPC_TARGET_AVX512IFMA __m512i mask512(const struct mpc_run *run)
{
    return run->stored == 8 ? _mm512_set1_epi64((int64_t)mpc_mask(run->bits))
                            : _mm512_set1_epi32((int32_t)mpc_mask(run->bits));
}

MPC_TARGET_AVX512IFMA static int64_t pack_avx512(const struct mpc_run *run, const char *a, const char *b, int negative,
                                                 char *out)
{
    uint8_t tight[64], loose[64];
    places(run, 64, tight, loose);
    __m512i order = _mm512_loadu_si512(tight), mask = mask512(run);
    int64_t lanes = 64 / run->stored, bytes = lanes * run->width, i = 0;
    const char *end = out + run->count * run->width;
    for (; i + lanes <= run->count && end - out >= 64; i += lanes, out += bytes) {
        __m512i x = _mm512_loadu_si512(a + i * run->stored);
        if (b)
            x = sum512(x, _mm512_loadu_si512(b + i * run->stored), run->stored, negative);
        _mm512_storeu_si512(out, _mm512_permutexvar_epi8(order, _mm512_and_si512(x, mask)));
    }
    return i;
}

MPC_TARGET_AVX512IFMA static int64_t unpack_avx512(const struct mpc_run *run, const char *raw, const char *mine,
                                                   char *out)
{
    uint8_t tight[64], loose[64];
    places(run, 64, tight, loose);
    __m512i order = _mm512_loadu_si512(loose), mask = mask512(run);
    __mmask64 used = _mm512_movepi8_mask(order);
    int64_t lanes = 64 / run->stored, bytes = lanes * run->width, i = 0;
    const char *end = raw + run->count * run->width;
    for (; i + lanes <= run->count && end - raw >= 64; i += lanes, raw += bytes) {
        __m512i x = _mm512_maskz_permutexvar_epi8(_knot_mask64(used), order, _mm512_loadu_si512(raw));
        if (mine)
            x = sum512(x, _mm512_loadu_si512(mine + i * run->stored), run->stored, 0);
        _mm512_storeu_si512(out + i * run->stored, _mm512_and_si512(x, mask));
    }
    return i;
}

int64_t mpc_pack_vectors(int level, const struct mpc_run *run, const char *a, const char *b, int negative, char *out)
{
    if (level >= MPC_AVX512IFMA)
        return pack_avx512(run, a, b, negative, out);
    return level >= MPC_AVX2 ? pack_avx2(run, a, b, negative, out) : 0;
}

int64_t mpc_unpack_vectors(int level, const struct mpc_run *run, const char *raw, const char *mine, char *out)
{
    if (level >= MPC_AVX512IFMA)
        return unpack_avx512(run, raw, mine, out);
    return level >= MPC_AVX2 ? unpack_avx2(run, raw, mine, out) : 0;
}

#else

int64_t mpc_pack_vectors(int level, const struct mpc_run *run, const char *a, const char *b, int negative, char *out)
{
    (void)level, (void)run, (void)a, (void)b, (void)negative, (void)out;
    return 0;
}

int64_t mpc_unpack_vectors(int level, const struct mpc_run *run, const char *raw, const char *mine, char *out)
{
    (void)level, (void)run, (void)raw, (void)mine, (void)out;
    return 0;
}

#endif
