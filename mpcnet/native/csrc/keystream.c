/* AES-128 in counter mode, four blocks to a register (VAES): the keystream of mpcnet/prg.py, byte for byte what the
 * library there gives, which has one block to a register. Where a processor has no VAES, the library does it. */

#include "aes.h"

#if MPC_X86

#include <cpuid.h>

#define TARGET MPC_WIDE __attribute__((target("avx2,aes,avx512f,avx512bw,avx512dq,avx512vl,vaes")))

enum {
    BLOCK = 16,
    BLOCKS = 4,                      /* of a register */
    GROUPS = 8,                      /* registers at a time: they hide the latency of a round */
    STRETCH = GROUPS * BLOCKS * BLOCK,
    SHARE = 1 << 16,                 /* bytes that a thread takes: a whole number of stretches */
};

struct job {
    __m128i keys[MPC_AES_ROUNDS + 1];
    uint64_t first; /* byte */
    int64_t count;  /* of them */
    uint8_t *out;
};

/* Blocks first .. first + 32 of the keystream: the cipher of their numbers, as 16 bytes with the highest first. */
TARGET MPC_INLINE void stretch(const __m512i keys[MPC_AES_ROUNDS + 1], uint64_t first, uint8_t *out)
{
    const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    __m512i number = _mm512_add_epi64(_mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0), _mm512_maskz_set1_epi64(0x55, (int64_t)first));
    __m512i x[GROUPS];
#pragma GCC unroll 8
    for (int i = 0; i < GROUPS; i++) {
        x[i] = _mm512_xor_si512(_mm512_shuffle_epi8(number, swap), keys[0]);
        number = _mm512_add_epi64(number, _mm512_maskz_set1_epi64(0x55, BLOCKS));
    }
#pragma GCC unroll 10
    for (int r = 1; r < MPC_AES_ROUNDS; r++)
#pragma GCC unroll 8
        for (int i = 0; i < GROUPS; i++)
            x[i] = _mm512_aesenc_epi128(x[i], keys[r]);
#pragma GCC unroll 8
    for (int i = 0; i < GROUPS; i++)
        _mm512_storeu_si512(out + 64 * i, _mm512_aesenclast_epi128(x[i], keys[MPC_AES_ROUNDS]));
}

TARGET static void share(void *context, int64_t index)
{
    const struct job *job = context;
    int64_t at = index * SHARE, end = mpc_min(at + SHARE, job->count);
    __m512i keys[MPC_AES_ROUNDS + 1];
    for (int r = 0; r <= MPC_AES_ROUNDS; r++)
        keys[r] = _mm512_broadcast_i32x4(job->keys[r]);
    while (at < end) {
        uint64_t place = job->first + (uint64_t)at, inside = place % BLOCK; /* nonzero at first only */
        if (!inside && end - at >= STRETCH) {
            stretch(keys, place / BLOCK, job->out + at);
            at += STRETCH;
            continue;
        }
        uint8_t some[STRETCH];
        int64_t taken = mpc_min(end - at, inside ? BLOCK - (int64_t)inside : STRETCH);
        stretch(keys, place / BLOCK, some);
        memcpy(job->out + at, some + inside, (size_t)taken);
        at += taken;
    }
}

/* out[0 .. count): bytes first .. first + count of the keystream of a key. */
MPC_EXPORT MPC_TARGET_AES int mpc_keystream(int level, int threads, const uint8_t *key, uint64_t first, int64_t count,
                                            uint8_t *out)
{
    (void)level;
    struct job job = {.first = first, .count = count, .out = out};
    mpc_aes_expand(key, job.keys);
    mpc_parallel(threads, (count + SHARE - 1) / SHARE, share, &job);
    return MPC_DONE;
}

#endif

/* Whether the function above is there and can be called. */
MPC_EXPORT int mpc_keystream_usable(void)
{
#if MPC_X86
    enum { VAES = 1 << 9 }; /* compilers before GCC 11 have no name for it */
    unsigned a, b, c, d;
    __builtin_cpu_init();
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & VAES);
#else
    return 0;
#endif
}
