/* AES-128 by the processor's instructions: the schedule of a key. */

#ifndef MPCNET_AES_H
#define MPCNET_AES_H

#include "kernels.h"

#if MPC_X86

#define MPC_TARGET_AES __attribute__((target("avx2,aes")))

enum { MPC_AES_ROUNDS = 10 };

MPC_TARGET_AES MPC_INLINE __m128i mpc_aes_next(__m128i key, __m128i assist)
{
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, _mm_shuffle_epi32(assist, 0xff));
}

/* The round keys of 16 bytes of key. */
MPC_TARGET_AES MPC_INLINE void mpc_aes_expand(const uint8_t *key, __m128i to[MPC_AES_ROUNDS + 1])
{
    to[0] = _mm_loadu_si128((const __m128i *)key);
#define MPC_AES_NEXT(round, constant)                                                                                  \
    to[round] = mpc_aes_next(to[round - 1], _mm_aeskeygenassist_si128(to[round - 1], constant));
    MPC_AES_NEXT(1, 0x01) MPC_AES_NEXT(2, 0x02) MPC_AES_NEXT(3, 0x04) MPC_AES_NEXT(4, 0x08) MPC_AES_NEXT(5, 0x10)
    MPC_AES_NEXT(6, 0x20) MPC_AES_NEXT(7, 0x40) MPC_AES_NEXT(8, 0x80) MPC_AES_NEXT(9, 0x1b) MPC_AES_NEXT(10, 0x36)
#undef MPC_AES_NEXT
}

#endif
#endif
