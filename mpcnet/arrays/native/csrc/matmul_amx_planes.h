/* How words become planes of bytes, for matmul_amx.c: tiles of 16 rows of 64 bytes.
 *
 * A tile of a plane of A is 16 rows; one of B is 16 groups of four rows, the four bytes of a column side by side, as
 * tdpbuud reads them. The depth comes in the order in which A is split with the fewest instructions: at 16 l + 4 z + c
 * stands k = 16 z + 4 l + c.
 */

#ifndef MPCNET_MATMUL_AMX_PLANES_H
#define MPCNET_MATMUL_AMX_PLANES_H

#include "product.h"

enum {
    SIDE = 16,          /* rows and columns of a tile of sums */
    STEP = 64,          /* depth of a product of tiles */
    TILE = SIDE * STEP, /* bytes of a tile */
};

/* How 16 words of so many bytes, which lie side by side, become two vectors of their lower and of their upper four bytes.
 * In each quarter of those stand first bytes of four words, then their second bytes, and so on. Words of up to four bytes
 * are one vector, and have no upper bytes; others are two, of eight words each. */
struct spread {
    __m512i low, high;                                    /* where each byte comes from, in the vector of its word */
    __mmask64 low_first, low_last, high_first, high_last; /* which bytes come from the first vector, and the last */
    int bytes, words;                                     /* of a word; to a vector */
};

MPC_TARGET_AMX static void spread_of(int bytes, struct spread *spread)
{
    int words = bytes > 4 ? 8 : 16;
    uint8_t low[64] = {0}, high[64] = {0};
    __mmask64 low_here = 0, high_here = 0;
    for (int i = 0; i < 64; i++) {
        int word = (i / 16 * 4 + i % 4) % words, byte = i / 4 % 4;
        if (byte < bytes) {
            low[i] = (uint8_t)(word * bytes + byte);
            low_here |= (__mmask64)1 << i;
        }
        if (byte + 4 < bytes) {
            high[i] = (uint8_t)(word * bytes + byte + 4);
            high_here |= (__mmask64)1 << i;
        }
    }
    const __mmask64 first = words == 8 ? ((__mmask64)1 << 32) - 1 : ~(__mmask64)0;
    *spread = (struct spread){
        _mm512_loadu_si512(low), _mm512_loadu_si512(high), low_here & first, low_here & ~first, high_here & first,
        high_here & ~first, bytes, words,
    };
}

/* Which bytes of the vectors are there, if `count` words are. */
struct here {
    __mmask64 first, last;
};

MPC_INLINE __mmask64 first_bits(int64_t count) { return count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1; }

MPC_INLINE struct here here_of(const struct spread *s, int64_t count)
{
    int64_t first = mpc_min(count > 0 ? count : 0, s->words), last = mpc_min(count, 16) - first;
    return (struct here){first_bits(first * s->bytes), first_bits((last > 0 ? last : 0) * s->bytes)};
}

/* `wide`: the words have more than four bytes. */
MPC_INLINE MPC_TARGET_AMX void take(const struct spread *s, const char *from, struct here here, int wide, __m512i *low,
                                    __m512i *high)
{
    __m512i first = _mm512_maskz_loadu_epi8(here.first, from);
    *low = _mm512_maskz_permutexvar_epi8(s->low_first, s->low, first);
    if (wide) {
        __m512i last = _mm512_maskz_loadu_epi8(here.last, from + 8 * s->bytes);
        *low = _mm512_mask_permutexvar_epi8(*low, s->low_last, s->low, last);
        *high = _mm512_maskz_permutexvar_epi8(s->high_first, s->high, first);
        *high = _mm512_mask_permutexvar_epi8(*high, s->high_last, s->high, last);
    }
}

/* 64 words of a row of A, as `take` leaves four bytes of them, become 64 bytes of each of four planes. */
MPC_INLINE MPC_TARGET_AMX void split_left(__m512i x[4])
{
    __m512i a = _mm512_unpacklo_epi32(x[0], x[1]), b = _mm512_unpacklo_epi32(x[2], x[3]);
    __m512i c = _mm512_unpackhi_epi32(x[0], x[1]), d = _mm512_unpackhi_epi32(x[2], x[3]);
    x[0] = _mm512_unpacklo_epi64(a, b);
    x[1] = _mm512_unpackhi_epi64(a, b);
    x[2] = _mm512_unpacklo_epi64(c, d);
    x[3] = _mm512_unpackhi_epi64(c, d);
}

/* 16 words of each of four rows of B become 64 bytes of each of four planes. */
MPC_INLINE MPC_TARGET_AMX void split_right(__m512i x[4])
{
    __m512i a = _mm512_unpacklo_epi8(x[0], x[1]), b = _mm512_unpacklo_epi8(x[2], x[3]);
    __m512i c = _mm512_unpackhi_epi8(x[0], x[1]), d = _mm512_unpackhi_epi8(x[2], x[3]);
    x[0] = _mm512_unpacklo_epi16(a, b);
    x[1] = _mm512_unpackhi_epi16(a, b);
    x[2] = _mm512_unpacklo_epi16(c, d);
    x[3] = _mm512_unpackhi_epi16(c, d);
}

MPC_INLINE MPC_TARGET_AMX void store_planes(const __m512i *x, int from, int limbs, uint8_t *to)
{
#pragma GCC unroll 4
    for (int p = 0; p < 4; p++)
        if (from + p < limbs)
            _mm512_storeu_si512(to + (from + p) * TILE, x[p]);
}

/* Rows of A, `stride` bytes apart, of `depth` words. */
MPC_INLINE MPC_TARGET_AMX void left_body(const struct spread *spread, const char *from, int64_t stride, int64_t rows,
                                         int64_t depth, int limbs, uint8_t *to, int wide)
{
    for (int64_t i = 0; i < rows; i += SIDE)
        for (int64_t k = 0; k < depth; k += STEP, to += limbs * TILE)
            for (int64_t r = 0; r < SIDE; r++) {
                int64_t count = i + r < rows ? depth - k : 0;
                const char *row = from + (count ? (i + r) * stride + k * spread->bytes : 0);
                __m512i low[4], high[4];
#pragma GCC unroll 4
                for (int z = 0; z < 4; z++)
                    take(spread, row + z * SIDE * spread->bytes, here_of(spread, count - z * SIDE), wide, &low[z],
                         &high[z]);
                split_left(low);
                store_planes(low, 0, limbs, to + r * STEP);
                if (wide) {
                    split_left(high);
                    store_planes(high, 4, limbs, to + r * STEP);
                }
            }
}

/* Up to STEP rows of up to 16 columns of B, in rows `stride` bytes apart. */
MPC_INLINE MPC_TARGET_AMX void right_tile(const struct spread *spread, const char *from, int64_t stride, int64_t rows,
                                          int64_t columns, int limbs, uint8_t *to, int wide)
{
    const struct here all = here_of(spread, columns), none = {0, 0};
    for (int g = 0; g < SIDE; g++, to += STEP) {
        int k = g % 4 * SIDE + g / 4 * 4;
        __m512i low[4], high[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++)
            take(spread, from + (k + r) * stride, k + r < rows ? all : none, wide, &low[r], &high[r]);
        split_right(low);
        store_planes(low, 0, limbs, to);
        if (wide) {
            split_right(high);
            store_planes(high, 4, limbs, to);
        }
    }
}

/* Bytes of a strip in planes that stand for so many rows. */
MPC_INLINE int64_t strip_bytes(int64_t rows, int limbs) { return rows * MPC_STRIP * limbs; }

#endif
