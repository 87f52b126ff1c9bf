/* Tiles of AVX2 that multiply digits of up to 16 bits, in rings of 33 to 48 bits: two rows by eight columns.
 *
 * vpmaddwd multiplies signed words of 16 bits and adds neighbouring products, mod 2^32. AVX2 has no product of 64-bit
 * words, and to make one of products of 32 bits takes half as long again.
 *
 * Up to 40 bits: x = x0 + 2^13 x1 + 2^27 x2 mod 2^40 with x0 in [-2^12, 2^12), x1 in [-2^13, 2^13), and y likewise, so
 *
 *   x y = x0 y0 + 2^13 (x0 y1 + x1 y0) + 2^26 x1 y1 + 2^27 (x0 y2 + x2 y0)   mod 2^40
 *
 * The first bracket is (x0 + x1) (y0 + y1) - x0 y0 - x1 y1 (Karatsuba), which makes five products in all. Only x0 y0 is
 * needed beyond 27 bits, so the other sums may wrap. The sum of x0 y0 is in (-2^31, 2^31] over MPC_DIGITS_DEPTH rows.
 *
 * Up to 48 bits: x = x0 + 2^16 x1 + 2^32 x2 mod 2^48 with x0 and x1 in [-2^15, 2^15), so
 *
 *   x y = x0 y0 + 2^16 (x0 y1 + x1 y0) + 2^32 (x0 y2 + x1 y1 + x2 y0)   mod 2^48
 *
 * The brackets are needed mod 2^32 and 2^16, so their sums may wrap. The sum of x0 y0 is needed mod 2^48. It is known
 * mod 2^32 in the same way, and nearly from x' = round(x0 / 16): x0 y0 and 256 x' y' differ by less than 2^19 + 65.
 * Over MPC_DIGITS_DEPTH rows the sum of x0 y0 thus differs by less than 2^31 from 256 times the sum of x' y', and that
 * sum fits 32 bits. That makes seven products; four digits of 12 bits would take eight with Karatsuba's formula.
 */

#include "matmul_digits.h"
#include "words.h"

#if MPC_X86

/* Digits of eight columns of a panel. */
struct columns {
    __m256i digit[4];
};

/* Sums of products of eight columns.
 * Up to 40 bits: `low` of x0 y0, `middle` of x1 y1, `top` of x0 y2 and x2 y0, `other` of (x0 + x1) (y0 + y1).
 * Up to 48 bits: `low`, `middle` and `top` of the products that weigh 1, 2^16 and 2^32, `other` of x' y'. */
struct sums {
    __m256i low, middle, top, other;
};

MPC_INLINE MPC_TARGET_AVX2 struct sums nothing(void)
{
    __m256i zero = _mm256_setzero_si256();
    return (struct sums){zero, zero, zero, zero};
}

MPC_INLINE MPC_TARGET_AVX2 struct columns load(const struct mpc_digits *panel)
{
    const __m256i *digit = (const __m256i *)panel;
    return (struct columns){{digit[0], digit[1], digit[2], digit[3]}};
}

/* As assembly, as in matmul_tiles512.c: GCC 12 would compute all products before it adds the first. */
MPC_INLINE MPC_TARGET_AVX2 __m256i step(__m256i s, __m256i a, __m256i b)
{
    __m256i product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(s), "=&x"(product) : "x"(a), "x"(b));
    return s;
}

MPC_INLINE MPC_TARGET_AVX2 __m256i spread(const struct mpc_digits *x, int index)
{
    return _mm256_set1_epi32((int32_t)x->digit[index]);
}

MPC_INLINE MPC_TARGET_AVX2 struct sums step40(struct sums s, const struct mpc_digits *x, struct columns y)
{
    __m256i a = spread(x, 0);
    s.low = step(s.low, a, y.digit[0]);
    s.top = step(s.top, a, y.digit[2]);
    s.middle = step(s.middle, spread(x, 1), y.digit[1]);
    s.top = step(s.top, spread(x, 2), y.digit[0]);
    s.other = step(s.other, spread(x, 3), y.digit[3]);
    return s;
}

MPC_INLINE MPC_TARGET_AVX2 struct sums step48(struct sums s, const struct mpc_digits *x, struct columns y)
{
    __m256i a = spread(x, 0);
    s.low = step(s.low, a, y.digit[0]);
    s.middle = step(s.middle, a, y.digit[1]);
    s.top = step(s.top, a, y.digit[2]);
    a = spread(x, 1);
    s.middle = step(s.middle, a, y.digit[0]);
    s.top = step(s.top, a, y.digit[1]);
    s.top = step(s.top, spread(x, 2), y.digit[0]);
    s.other = step(s.other, spread(x, 3), y.digit[3]);
    return s;
}

/* Four columns of x + 2^shift y, from signed words of 32 bits. */
MPC_INLINE MPC_TARGET_AVX2 __m256i weighed(__m128i x, __m128i y, int shift)
{
    return _mm256_add_epi64(_mm256_cvtepi32_epi64(x), _mm256_slli_epi64(_mm256_cvtepi32_epi64(y), shift));
}

/* to[0..8) = from +- the sums of its columns; `from` is NULL for zero. */
MPC_INLINE MPC_TARGET_AVX2 void add(const word64 *from, word64 *to, __m256i first, __m256i second, int negative)
{
    __m256i sum[2] = {first, second};
    for (int i = 0; i < 2; i++, to += 4) {
        __m256i start = from ? _mm256_loadu_si256((const __m256i *)from + i) : _mm256_setzero_si256();
        start = negative ? _mm256_sub_epi64(start, sum[i]) : _mm256_add_epi64(start, sum[i]);
        _mm256_storeu_si256((__m256i *)to, start);
    }
}

#define FIRST(x) _mm256_castsi256_si128(x)
#define SECOND(x) _mm256_extracti128_si256(x, 1)

MPC_INLINE MPC_TARGET_AVX2 void add40(const word64 *from, word64 *to, struct sums s, int negative)
{
    const __m256i one = _mm256_set1_epi64x(1);
    __m256i less = _mm256_add_epi32(s.low, _mm256_set1_epi32(-1)); /* in [-2^31, 2^31) */
    __m256i cross = _mm256_sub_epi32(_mm256_sub_epi32(s.other, s.low), s.middle);
    __m256i high = _mm256_add_epi32(cross, _mm256_slli_epi32(s.middle, 13));
    high = _mm256_add_epi32(high, _mm256_slli_epi32(s.top, 14));
    add(from, to, _mm256_add_epi64(weighed(FIRST(less), FIRST(high), 13), one),
        _mm256_add_epi64(weighed(SECOND(less), SECOND(high), 13), one), negative);
}

MPC_INLINE MPC_TARGET_AVX2 void add48(const word64 *from, word64 *to, struct sums s, int negative)
{
    __m256i beyond = _mm256_sub_epi32(s.low, _mm256_slli_epi32(s.other, 8)); /* of the sum of the x0 y0, 256 other */
    __m256i high = _mm256_add_epi32(s.middle, _mm256_slli_epi32(s.top, 16));
    __m256i first = weighed(FIRST(beyond), FIRST(s.other), 8), second = weighed(SECOND(beyond), SECOND(s.other), 8);
    add(from, to, _mm256_add_epi64(first, _mm256_slli_epi64(_mm256_cvtepi32_epi64(FIRST(high)), 16)),
        _mm256_add_epi64(second, _mm256_slli_epi64(_mm256_cvtepi32_epi64(SECOND(high)), 16)), negative);
}

#define TILE avx2_40
#define DIGITS 40
#define TARGET MPC_TARGET_AVX2
#define WORD word64
#define STEP_WORD struct mpc_digits
#define VEC struct columns
#define ACC struct sums
#define LANES MPC_DIGITS_COLUMNS
#define ROWS 2
#define VECTORS 1
#define ZERO() nothing()
#define LOAD(p) load(p)
#define SPREAD(p) (p)
#define STEP(s, a, b) step40(s, a, b)
#define ADD(from, to, s, negative) add40(from, to, s, negative)
#include "matmul_tile.h"

#define TILE avx2_48
#define DIGITS 48
#define TARGET MPC_TARGET_AVX2
#define WORD word64
#define STEP_WORD struct mpc_digits
#define VEC struct columns
#define ACC struct sums
#define LANES MPC_DIGITS_COLUMNS
#define ROWS 2
#define VECTORS 1
#define ZERO() nothing()
#define LOAD(p) load(p)
#define SPREAD(p) (p)
#define STEP(s, a, b) step48(s, a, b)
#define ADD(from, to, s, negative) add48(from, to, s, negative)
#include "matmul_tile.h"

#endif
