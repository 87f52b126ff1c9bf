/* Tiles of the matrix product: what a level multiplies with, and how many sums its registers hold. The level above these
 * multiplies with the tile registers of AMX (matmul_amx.c), and a few rows as avx512ifma does.
 *
 *   bits        avx512ifma     avx512         avx2                       portable
 *   33 .. 48    vpmadd52luq    vpmullq        vpmaddwd of digits         one word at a time
 *   49 .. 52    vpmadd52luq    vpmullq        vpmuludq and vpmulld       one word at a time
 *   53 .. 64    vpmullq        vpmullq        vpmuludq and vpmulld       one word at a time
 *   17 .. 32    vpmulld        vpmulld        vpmulld                    vectors of 16 bytes
 *    9 .. 16    vpdpwssd       vpmaddwd       vpmaddwd                   vectors of 16 bytes
 *
 * vpmadd52luq adds the low 52 bits of a product of 52-bit words to 64-bit sums: exact mod 2^52, whatever stands above.
 * The low 16 bits of a sum of signed products of 16-bit words are right mod 2^16.
 */

#include "matmul_digits.h"

typedef uint64_t __attribute__((may_alias, aligned(1))) word64;
typedef uint32_t __attribute__((may_alias, aligned(1))) word32;
typedef uint16_t __attribute__((may_alias, aligned(1))) word16;

/* ---- portable: by the compiler's own vectors, which are NEON on aarch64 ---- */

typedef uint32_t vector32 __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint16_t vector16 __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint32_t loose32 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t loose16 __attribute__((vector_size(16), aligned(1), may_alias));

#define PLAIN_ADD(loose, from, to, s, negative)                                                                        \
    do {                                                                                                               \
        const loose *source = (const loose *)(from);                                                                   \
        *(loose *)(to) = ((from) ? *source : (loose){0}) + (loose)((negative) ? -(s) : (s));                           \
    } while (0)

#define TILE portable64
#define TARGET
#define WORD word64
#define STEP_WORD word64
#define VEC uint64_t
#define ACC uint64_t
#define LANES 1
#define ROWS 4
#define VECTORS 2
#define ZERO() 0
#define LOAD(p) (*(p))
#define SPREAD(p) (*(p))
#define STEP(s, a, b) ((s) + (a) * (b))
#define ADD(from, to, s, negative) (*(to) = ((from) ? *(from) : 0) + ((negative) ? -(s) : (s)))
#include "matmul_tile.h"

#define TILE portable32
#define TARGET
#define WORD word32
#define STEP_WORD word32
#define VEC vector32
#define ACC vector32
#define LANES 4
#define ROWS 4
#define VECTORS 2
#define ZERO() (vector32){0}
#define LOAD(p) (vector32)(*(const loose32 *)(p))
#define SPREAD(p) (*(p) - (vector32){0})
#define STEP(s, a, b) ((s) + (a) * (b))
#define ADD(from, to, s, negative) PLAIN_ADD(loose32, from, to, s, negative)
#include "matmul_tile.h"

#define TILE portable16
#define TARGET
#define WORD word16
#define STEP_WORD word16
#define VEC vector16
#define ACC vector16
#define LANES 8
#define ROWS 4
#define VECTORS 2
#define ZERO() (vector16){0}
#define LOAD(p) (vector16)(*(const loose16 *)(p))
#define SPREAD(p) (*(p) - (vector16){0})
#define STEP(s, a, b) ((s) + (a) * (b))
#define ADD(from, to, s, negative) PLAIN_ADD(loose16, from, to, s, negative)
#include "matmul_tile.h"

#if MPC_X86

/* ---- avx2 ---- */

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
        __m256i start_ = (from) ? _mm256_loadu_si256((const __m256i *)(from)) : _mm256_setzero_si256();                 \
        __m256i sum_ = (negative) ? _mm256_sub_##lanes(start_, s) : _mm256_add_##lanes(start_, s);                       \
        _mm256_storeu_si256((__m256i *)(to), sum_);                                                                     \
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
        __m128i start_ = (from) ? _mm_loadu_si128((const __m128i *)(from)) : _mm_setzero_si128();                       \
        __m128i low = low_halves256(s);                                                                                \
        low = (negative) ? _mm_sub_epi16(start_, low) : _mm_add_epi16(start_, low);                                      \
        _mm_storeu_si128((__m128i *)(to), low);                                                                        \
    } while (0)
#include "matmul_tile.h"

/* ---- avx512: 8 rows of 3 vectors are 24 sums, which hide the latency of two multipliers ---- */

#define ADD512(lanes, from, to, s, negative)                                                                           \
    do {                                                                                                               \
        __m512i start_ = (from) ? _mm512_loadu_si512(from) : _mm512_setzero_si512();                                    \
        __m512i sum_ = (negative) ? _mm512_sub_##lanes(start_, s) : _mm512_add_##lanes(start_, s);                       \
        _mm512_storeu_si512(to, sum_);                                                                                  \
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

#define TILE avx512_52
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
        __m256i start_ = (from) ? _mm256_loadu_si256((const __m256i *)(from)) : _mm256_setzero_si256();                 \
        __m256i low = _mm512_cvtepi32_epi16(s);                                                                        \
        low = (negative) ? _mm256_sub_epi16(start_, low) : _mm256_add_epi16(start_, low);                                \
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

const struct mpc_tiles *mpc_matmul_tiles(int level, int bits)
{
#if MPC_X86
    if (level >= MPC_AVX512) {
        int all = level >= MPC_AVX512IFMA;
        return bits > 52 ? &avx512_64 : bits > 32 ? (all ? &avx512_52 : &avx512_64) : bits > 16 ? &avx512_32
             : all       ? &avx512vnni_16
                         : &avx512_16;
    }
    if (level == MPC_AVX2)
        return bits > MPC_DIGITS_BITS ? &avx2_64
             : bits > 32              ? mpc_matmul_digit_tiles(bits)
             : bits > 16              ? &avx2_32
                                      : &avx2_16;
#endif
    (void)level;
    return bits > 32 ? &portable64 : bits > 16 ? &portable32 : &portable16;
}
