/* Tiles of AVX2 that multiply words whole. Those of digits are in matmul_tiles_digits.c. */

#include "matmul_tiles.h"
#include "words.h"

#if MPC_X86

/* For a = a0 + 2^32 a1 and b likewise: a b = a0 b0 + 2^32 (a0 b1 + a1 b0) mod 2^64. The halves of `cross` sum the two
 * products in brackets mod 2^32, so they are added up and shifted once, at the end. */
struct halves {
    __m256i low, cross;
};

MPC_INLINE MPC_TARGET_AVX2 struct halves halves_step(struct halves s, __m256i a, __m256i b)
{
    __m256i swapped = _mm256_shuffle_epi32(a, 0xB1);
    s.low = _mm256_add_epi64(s.low, _mm256_mul_epu32(a, b));
    s.cross = _mm256_add_epi32(s.cross, _mm256_mullo_epi32(swapped, b));
    return s;
}

MPC_INLINE MPC_TARGET_AVX2 __m256i halves_total(struct halves s)
{
    __m256i both = _mm256_add_epi32(s.cross, _mm256_srli_epi64(s.cross, 32));
    return _mm256_add_epi64(s.low, _mm256_slli_epi64(both, 32));
}

#define ADD256(lanes, from, to, s, negative)                                                                           \
    do {                                                                                                               \
        __m256i start_ = (from) ? _mm256_loadu_si256((const __m256i *)(from)) : _mm256_setzero_si256();                \
        __m256i sum_ = (negative) ? _mm256_sub_##lanes(start_, s) : _mm256_add_##lanes(start_, s);                     \
        _mm256_storeu_si256((__m256i *)(to), sum_);                                                                    \
    } while (0)

#define TILE avx2_64
#define TARGET MPC_TARGET_AVX2
#define WORD word64
#define STEP_WORD word64
#define VEC __m256i
#define ACC struct halves
#define LANES 4
#define ROWS 2
#define VECTORS 2
#define ZERO() (struct halves){_mm256_setzero_si256(), _mm256_setzero_si256()}
#define LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define SPREAD(p) _mm256_set1_epi64x((int64_t)*(p))
#define STEP(s, a, b) halves_step(s, a, b)
#define ADD(from, to, s, negative) ADD256(epi64, from, to, halves_total(s), negative)
#include "matmul_tile.h"

#define TILE avx2_32
#define TARGET MPC_TARGET_AVX2
#define WORD word32
#define STEP_WORD word32
#define VEC __m256i
#define ACC __m256i
#define LANES 8
#define ROWS 4
#define VECTORS 2
#define ZERO() _mm256_setzero_si256()
#define LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define SPREAD(p) _mm256_set1_epi32((int32_t)*(p))
#define STEP(s, a, b) _mm256_add_epi32(s, _mm256_mullo_epi32(a, b))
#define ADD(from, to, s, negative) ADD256(epi32, from, to, s, negative)
#include "matmul_tile.h"

/* The low halves of eight sums, as eight words. */
MPC_INLINE MPC_TARGET_AVX2 __m128i low_halves256(__m256i s)
{
    __m256i low = _mm256_and_si256(s, _mm256_set1_epi32(0xFFFF));
    return _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
}

#define TILE avx2_16
#define TARGET MPC_TARGET_AVX2
#define WORD word16
#define STEP_WORD word32
#define VEC __m256i
#define ACC __m256i
#define LANES 8
#define ROWS 4
#define VECTORS 2
#define ZERO() _mm256_setzero_si256()
#define LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define SPREAD(p) _mm256_set1_epi32((int32_t)*(p))
#define STEP(s, a, b) _mm256_add_epi32(s, _mm256_madd_epi16(a, b))
#define ADD(from, to, s, negative)                                                                                     \
    do {                                                                                                               \
        __m128i start_ = (from) ? _mm_loadu_si128((const __m128i *)(from)) : _mm_setzero_si128();                      \
        __m128i low = low_halves256(s);                                                                                \
        low = (negative) ? _mm_sub_epi16(start_, low) : _mm_add_epi16(start_, low);                                    \
        _mm_storeu_si128((__m128i *)(to), low);                                                                        \
    } while (0)
#include "matmul_tile.h"

#endif
