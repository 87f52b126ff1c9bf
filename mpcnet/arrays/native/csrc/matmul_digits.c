/* Matrix products of digits of up to 16 bits, by vpmaddwd: it multiplies signed words of 16 bits and adds neighbouring
 * products, mod 2^32. AVX2 has no product of 64-bit words; to make it of products of 32 bits takes half as long again.
 *
 * Up to 40 bits: x = x0 + 2^13 x1 + 2^27 x2 mod 2^40 with x0 in [-2^12, 2^12), x1 in [-2^13, 2^13), and y likewise, so
 *
 *   x y = x0 y0 + 2^13 (x0 y1 + x1 y0) + 2^26 x1 y1 + 2^27 (x0 y2 + x2 y0)   mod 2^40
 *
 * The first bracket is (x0 + x1) (y0 + y1) - x0 y0 - x1 y1 (Karatsuba): five products in all. All but the first are wanted
 * mod 2^27 or less, so their sums may wrap; that of the x0 y0 is in (-2^31, 2^31] over up to MPC_DIGITS_DEPTH rows.
 *
 * Up to 48 bits: x = x0 + 2^16 x1 + 2^32 x2 mod 2^48 with x0 and x1 in [-2^15, 2^15), so
 *
 *   x y = x0 y0 + 2^16 (x0 y1 + x1 y0) + 2^32 (x0 y2 + x1 y1 + x2 y0)   mod 2^48
 *
 * What is in brackets is wanted mod 2^32 and 2^16, so its sums may wrap. The sum of the x0 y0 is wanted mod 2^48. It is
 * known mod 2^32 in the same way, and nearly from x' = round(x0 / 16): x0 y0 and 256 x' y' differ by less than 2^19 + 65.
 * So over up to MPC_DIGITS_DEPTH rows the sum is less than 2^31 away from 256 times that of the x' y', which fits 32 bits.
 * That is seven products; four digits of 12 bits would take eight, with Karatsuba's formula.
 */

#include "matmul_digits.h"

#if MPC_X86

typedef uint64_t __attribute__((may_alias, aligned(1))) word64;

enum { COLUMNS = 8 }; /* of a tile */

/* x0, x1, x2 and x0 + x1 (up to 40 bits) or x' (up to 48) of two words: of the first in the low halves. They are of a row
 * of A and lie side by side, or of a column of B and lie one below the other. A panel has them digit by digit, each of
 * eight columns. */
struct digits {
    uint32_t digit[4];
};

/* ---- words become digits ---- */

/* Of four words, the digits of each: in 16 bits each, one after the other. */
MPC_INLINE MPC_TARGET_AVX2 __m256i digits48(__m256i words)
{
    const __m256i half = _mm256_set1_epi64x(0x80008000);
    __m256i digits = _mm256_xor_si256(_mm256_add_epi64(words, half), half);
    __m256i near = _mm256_mulhrs_epi16(digits, _mm256_set1_epi16(1 << 11));
    return _mm256_blend_epi16(digits, _mm256_slli_epi64(near, 48), 0x88);
}

MPC_INLINE MPC_TARGET_AVX2 __m256i digits40(__m256i words)
{
    __m256i shifted = _mm256_add_epi64(words, _mm256_set1_epi64x((1 << 26) + (1 << 12)));
    __m256i first = _mm256_and_si256(shifted, _mm256_set1_epi64x(0x1FFF));
    __m256i second = _mm256_and_si256(_mm256_slli_epi64(shifted, 3), _mm256_set1_epi64x(0x3FFF << 16));
    __m256i third = _mm256_and_si256(_mm256_slli_epi64(shifted, 5), _mm256_set1_epi64x((int64_t)0x1FFF << 32));
    __m256i digits = _mm256_or_si256(_mm256_or_si256(first, second), third);
    digits = _mm256_sub_epi16(digits, _mm256_set1_epi64x((1 << 29) + (1 << 12)));
    __m256i sum = _mm256_add_epi16(_mm256_slli_epi64(digits, 48), _mm256_slli_epi64(digits, 32));
    return _mm256_blend_epi16(digits, sum, 0x88);
}

MPC_INLINE MPC_TARGET_AVX2 __m256i digits_of(int digits, __m256i words)
{
    return digits > 40 ? digits48(words) : digits40(words);
}

MPC_INLINE MPC_TARGET_AVX2 void digit_rows(int digits, const char *from, int64_t stride, int64_t rows, int64_t depth,
                                           int64_t to_stride, void *to)
{
    const __m256i pairs = _mm256_broadcastsi128_si256(
        _mm_set_epi8(15, 14, 7, 6, 13, 12, 5, 4, 11, 10, 3, 2, 9, 8, 1, 0));
    for (int64_t i = 0; i < rows; i++, from += stride) {
        __m256i *row = (__m256i *)((uint64_t *)to + i * to_stride);
        for (int64_t k = 0; k < depth; k += 4) {
            __m256i words = _mm256_setzero_si256();
            if (k + 4 <= depth)
                words = _mm256_loadu_si256((const __m256i *)(from + 8 * k));
            else
                memcpy(&words, from + 8 * k, (size_t)(8 * (depth - k)));
            _mm256_storeu_si256(row++, _mm256_shuffle_epi8(digits_of(digits, words), pairs));
        }
    }
}

MPC_TARGET_AVX2 void mpc_matmul_digit_rows(int digits, const char *from, int64_t stride, int64_t rows, int64_t depth,
                                           int64_t to_stride, void *to)
{
    if (digits > 40)
        digit_rows(48, from, stride, rows, depth, to_stride, to);
    else
        digit_rows(40, from, stride, rows, depth, to_stride, to);
}

/* The permutation that makes two words of `bytes` bytes words of eight, in either half. */
MPC_INLINE MPC_TARGET_AVX2 __m256i places_of(int64_t bytes)
{
    int8_t from[16];
    for (int i = 0; i < 16; i++)
        from[i] = (int8_t)(i % 8 < bytes ? i / 8 * bytes + i % 8 : -1);
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)from));
}

/* Two words at `from`, and two behind the next two. */
MPC_INLINE MPC_TARGET_AVX2 __m256i four_words(const char *from, int64_t bytes, __m256i places)
{
    __m128i low = _mm_loadu_si128((const __m128i *)from), high = _mm_loadu_si128((const __m128i *)(from + 4 * bytes));
    return _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1), places);
}

/* Eight columns of two rows. */
MPC_INLINE MPC_TARGET_AVX2 void digits_of_rows(int digits, const char *first, const char *second, int64_t bytes,
                                               __m256i places, __m256i *to)
{
    __m256i a = digits_of(digits, four_words(first, bytes, places));
    __m256i b = digits_of(digits, four_words(first + 2 * bytes, bytes, places));
    __m256i c = digits_of(digits, four_words(second, bytes, places));
    __m256i d = digits_of(digits, four_words(second + 2 * bytes, bytes, places));
    __m256i even = _mm256_unpacklo_epi16(a, c), odd = _mm256_unpackhi_epi16(a, c); /* columns 0 and 4, columns 1 and 5 */
    __m256i low = _mm256_unpacklo_epi32(even, odd), high = _mm256_unpackhi_epi32(even, odd);
    even = _mm256_unpacklo_epi16(b, d), odd = _mm256_unpackhi_epi16(b, d); /* columns 2 and 6, columns 3 and 7 */
    __m256i low2 = _mm256_unpacklo_epi32(even, odd), high2 = _mm256_unpackhi_epi32(even, odd);
    _mm256_store_si256(to, _mm256_unpacklo_epi64(low, low2));
    _mm256_store_si256(to + 1, _mm256_unpackhi_epi64(low, low2));
    _mm256_store_si256(to + 2, _mm256_unpacklo_epi64(high, high2));
    _mm256_store_si256(to + 3, _mm256_unpackhi_epi64(high, high2));
}

MPC_INLINE MPC_TARGET_AVX2 void digit_panel(int digits, const struct mpc_block *block, int64_t width, __m256i *panel)
{
    int64_t bytes = block->bytes, reach = 6 * bytes + 16;
    int beside = block->column == bytes;
    __m256i places = places_of(bytes), plain = places_of(8);
    for (int64_t k = 0; k < block->depth; k += 2)
        for (int64_t j = 0; j < width; j += COLUMNS, panel += 4) {
            const char *first = block->data + k * block->row + j * block->column, *second = first + block->row;
            if (beside && k + 2 <= block->depth && j + COLUMNS <= block->columns && block->end - second >= reach) {
                digits_of_rows(digits, first, second, bytes, places, panel);
                continue;
            }
            uint64_t words[2][COLUMNS] = {{0}};
            for (int64_t r = 0; r < mpc_min(2, block->depth - k); r++)
                for (int64_t i = 0; i < mpc_min(COLUMNS, block->columns - j); i++)
                    words[r][i] = mpc_any_word(first + r * block->row + i * block->column, block->end, block->bytes);
            digits_of_rows(digits, (const char *)words[0], (const char *)words[1], 8, plain, panel);
        }
}

MPC_TARGET_AVX2 void mpc_matmul_digit_panel(int digits, const struct mpc_block *block, int64_t width, void *panel)
{
    if (digits > 40)
        digit_panel(48, block, width, panel);
    else
        digit_panel(40, block, width, panel);
}

/* ---- tiles: two rows by eight columns ---- */

/* Digits of eight columns of a panel. */
struct columns {
    __m256i digit[4];
};

/* Sums of products of eight columns. Up to 40 bits: `low` of x0 y0, `middle` of x1 y1, `top` of x0 y2 and x2 y0, `other` of
 * (x0 + x1) (y0 + y1). Up to 48 bits: `low`, `middle` and `top` of what weighs 1, 2^16 and 2^32, `other` of x' y'. */
struct sums {
    __m256i low, middle, top, other;
};

MPC_INLINE MPC_TARGET_AVX2 struct sums nothing(void)
{
    __m256i zero = _mm256_setzero_si256();
    return (struct sums){zero, zero, zero, zero};
}

MPC_INLINE MPC_TARGET_AVX2 struct columns load(const struct digits *panel)
{
    const __m256i *digit = (const __m256i *)panel;
    return (struct columns){{digit[0], digit[1], digit[2], digit[3]}};
}

/* As assembly, as in matmul_tiles.c: GCC 12 would compute all products before it adds the first. */
MPC_INLINE MPC_TARGET_AVX2 __m256i step(__m256i s, __m256i a, __m256i b)
{
    __m256i product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(s), "=&x"(product) : "x"(a), "x"(b));
    return s;
}

MPC_INLINE MPC_TARGET_AVX2 __m256i spread(const struct digits *x, int index)
{
    return _mm256_set1_epi32((int32_t)x->digit[index]);
}

MPC_INLINE MPC_TARGET_AVX2 struct sums step40(struct sums s, const struct digits *x, struct columns y)
{
    __m256i a = spread(x, 0);
    s.low = step(s.low, a, y.digit[0]);
    s.top = step(s.top, a, y.digit[2]);
    s.middle = step(s.middle, spread(x, 1), y.digit[1]);
    s.top = step(s.top, spread(x, 2), y.digit[0]);
    s.other = step(s.other, spread(x, 3), y.digit[3]);
    return s;
}

MPC_INLINE MPC_TARGET_AVX2 struct sums step48(struct sums s, const struct digits *x, struct columns y)
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
#define STEP_WORD struct digits
#define VEC struct columns
#define ACC struct sums
#define LANES COLUMNS
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
#define STEP_WORD struct digits
#define VEC struct columns
#define ACC struct sums
#define LANES COLUMNS
#define ROWS 2
#define VECTORS 1
#define ZERO() nothing()
#define LOAD(p) load(p)
#define SPREAD(p) (p)
#define STEP(s, a, b) step48(s, a, b)
#define ADD(from, to, s, negative) add48(from, to, s, negative)
#include "matmul_tile.h"

const struct mpc_tiles *mpc_matmul_digit_tiles(int bits) { return bits > 40 ? &avx2_48 : &avx2_40; }

#else /* no tiles ask for digits */

void mpc_matmul_digit_rows(int digits, const char *from, int64_t stride, int64_t rows, int64_t depth, int64_t to_stride,
                           void *to)
{
    (void)digits, (void)from, (void)stride, (void)rows, (void)depth, (void)to_stride, (void)to;
}

void mpc_matmul_digit_panel(int digits, const struct mpc_block *block, int64_t width, void *panel)
{
    (void)digits, (void)block, (void)width, (void)panel;
}

#endif
