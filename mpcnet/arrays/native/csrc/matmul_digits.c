/* Splits words into digits: rows of A, and panels of B. matmul_tiles_digits.c says which digits, and why. */

#include "matmul_digits.h"

#if MPC_X86

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
    __m256i even = _mm256_unpacklo_epi16(a, c), odd = _mm256_unpackhi_epi16(a, c); /* columns 0 and 4, 1 and 5 */
    __m256i low = _mm256_unpacklo_epi32(even, odd), high = _mm256_unpackhi_epi32(even, odd);
    even = _mm256_unpacklo_epi16(b, d), odd = _mm256_unpackhi_epi16(b, d); /* columns 2 and 6, 3 and 7 */
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
        for (int64_t j = 0; j < width; j += MPC_DIGITS_COLUMNS, panel += 4) {
            const char *first = block->data + k * block->row + j * block->column, *second = first + block->row;
            int whole = k + 2 <= block->depth && j + MPC_DIGITS_COLUMNS <= block->columns;
            if (beside && whole && block->end - second >= reach) {
                digits_of_rows(digits, first, second, bytes, places, panel);
                continue;
            }
            uint64_t words[2][MPC_DIGITS_COLUMNS] = {{0}};
            for (int64_t r = 0; r < mpc_min(2, block->depth - k); r++)
                for (int64_t i = 0; i < mpc_min(MPC_DIGITS_COLUMNS, block->columns - j); i++)
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
