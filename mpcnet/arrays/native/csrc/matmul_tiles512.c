/* Tiles of AVX-512: 8 rows of 3 vectors are 24 sums, which hide the latency of two multipliers. */

#include "matmul_tiles.h"
#include "words.h"

#if MPC_X86

#define ADD512(lanes, from, to, s, negative)                                                                           \
    do {                                                                                                               \
        __m512i start_ = (from) ? _mm512_loadu_si512(from) : _mm512_setzero_si512();                                   \
        __m512i sum_ = (negative) ? _mm512_sub_##lanes(start_, s) : _mm512_add_##lanes(start_, s);                     \
        _mm512_storeu_si512(to, sum_);                                                                                 \
    } while (0)

/* Steps as assembly: GCC 12 copies the sums of vpdpwssd from register to register, and computes so many products before
 * it adds the first that they spill. Either takes half of the speed. */
#define MULTIPLY_ADD512(name, multiply, add)                                                                           \
    MPC_INLINE MPC_TARGET_AVX512 __m512i name(__m512i s, __m512i a, __m512i b)                                         \
    {                                                                                                                  \
        __m512i product;                                                                                               \
        __asm__(multiply " %3, %2, %1\n\t" add " %1, %0, %0" : "+v"(s), "=&v"(product) : "v"(a), "v"(b));              \
        return s;                                                                                                      \
    }

MULTIPLY_ADD512(step64, "vpmullq", "vpaddq")
MULTIPLY_ADD512(step32, "vpmulld", "vpaddd")
MULTIPLY_ADD512(step_pairs, "vpmaddwd", "vpaddd")

MPC_INLINE MPC_TARGET_AVX512IFMA __m512i step_pairs_at_once(__m512i s, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(s) : "v"(a), "v"(b));
    return s;
}

#define TILE avx512_64
#define TARGET MPC_TARGET_AVX512
#define WORD word64
#define STEP_WORD word64
#define VEC __m512i
#define ACC __m512i
#define LANES 8
#define ROWS 8
#define VECTORS 3
#define ZERO() _mm512_setzero_si512()
#define LOAD(p) _mm512_load_si512(p)
#define SPREAD(p) _mm512_set1_epi64((int64_t)*(p))
#define STEP(s, a, b) step64(s, a, b)
#define ADD(from, to, s, negative) ADD512(epi64, from, to, s, negative)
#include "matmul_tile.h"

#define TILE avx512ifma_52
#define TARGET MPC_TARGET_AVX512IFMA
#define WORD word64
#define STEP_WORD word64
#define VEC __m512i
#define ACC __m512i
#define LANES 8
#define ROWS 8
#define VECTORS 3
#define ZERO() _mm512_setzero_si512()
#define LOAD(p) _mm512_load_si512(p)
#define SPREAD(p) _mm512_set1_epi64((int64_t)*(p))
#define STEP(s, a, b) _mm512_madd52lo_epu64(s, a, b)
#define ADD(from, to, s, negative) ADD512(epi64, from, to, s, negative)
#include "matmul_tile.h"

#define TILE avx512_32
#define TARGET MPC_TARGET_AVX512
#define WORD word32
#define STEP_WORD word32
#define VEC __m512i
#define ACC __m512i
#define LANES 16
#define ROWS 8
#define VECTORS 3
#define ZERO() _mm512_setzero_si512()
#define LOAD(p) _mm512_load_si512(p)
#define SPREAD(p) _mm512_set1_epi32((int32_t)*(p))
#define STEP(s, a, b) step32(s, a, b)
#define ADD(from, to, s, negative) ADD512(epi32, from, to, s, negative)
#include "matmul_tile.h"

#define ADD_LOW512(from, to, s, negative)                                                                              \
    do {                                                                                                               \
        __m256i start_ = (from) ? _mm256_loadu_si256((const __m256i *)(from)) : _mm256_setzero_si256();                \
        __m256i low = _mm512_cvtepi32_epi16(s);                                                                        \
        low = (negative) ? _mm256_sub_epi16(start_, low) : _mm256_add_epi16(start_, low);                              \
        _mm256_storeu_si256((__m256i *)(to), low);                                                                     \
    } while (0)

#define TILE avx512_16
#define TARGET MPC_TARGET_AVX512
#define WORD word16
#define STEP_WORD word32
#define VEC __m512i
#define ACC __m512i
#define LANES 16
#define ROWS 8
#define VECTORS 3
#define ZERO() _mm512_setzero_si512()
#define LOAD(p) _mm512_load_si512(p)
#define SPREAD(p) _mm512_set1_epi32((int32_t)*(p))
#define STEP(s, a, b) step_pairs(s, a, b)
#define ADD(from, to, s, negative) ADD_LOW512(from, to, s, negative)
#include "matmul_tile.h"

#define TILE avx512vnni_16
#define TARGET MPC_TARGET_AVX512IFMA
#define WORD word16
#define STEP_WORD word32
#define VEC __m512i
#define ACC __m512i
#define LANES 16
#define ROWS 8
#define VECTORS 3
#define ZERO() _mm512_setzero_si512()
#define LOAD(p) _mm512_load_si512(p)
#define SPREAD(p) _mm512_set1_epi32((int32_t)*(p))
#define STEP(s, a, b) step_pairs_at_once(s, a, b)
#define ADD(from, to, s, negative) ADD_LOW512(from, to, s, negative)
#include "matmul_tile.h"

#endif
