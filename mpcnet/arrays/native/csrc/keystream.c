/* AES-128 in counter mode, two or four blocks to a register (VAES): the keystream of mpcnet/randomness/prg.py, byte for byte what the
 * library there gives, which has one block to a register. Where a processor has no VAES, the library does it. */

#include "aes.h"

#if MPC_X86

#include <cpuid.h>

#define TARGET256 __attribute__((target("avx2,aes,vaes")))
#define TARGET512 MPC_WIDE __attribute__((target("avx2,aes,avx512f,avx512bw,avx512dq,avx512vl,vaes")))

enum {
    BLOCK = 16,
    GROUPS = 8,                    /* registers at a time: they hide the latency of a round */
    STRETCH = GROUPS * 4 * BLOCK,
    SHARE = 1 << 16,               /* bytes that a thread takes: a whole number of stretches */
};

/* `count` stretches of the keystream from a block on: the cipher of the blocks' numbers, as 16 bytes with the highest
 * first. */
typedef void (*cipher)(const __m128i keys[MPC_AES_ROUNDS + 1], uint64_t block, int64_t count, uint8_t *out);

/* Zeros and the numbers of a register's first block, of the next, and so on; and what swaps the bytes of each. */
#define NUMBERS256 _mm256_set_epi64x(0, 1, 0, 0)
#define NUMBERS512 _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0)
#define LOW256(x) _mm256_set_epi64x(0, (int64_t)(x), 0, (int64_t)(x))
#define LOW512(x) _mm512_maskz_set1_epi64(0x55, (int64_t)(x))
#define SWAP _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)

#define CIPHER(size, broadcast, xor, store)                                                                            \
    TARGET##size static void cipher##size(const __m128i keys[MPC_AES_ROUNDS + 1], uint64_t block, int64_t count,       \
                                          uint8_t *out)                                                                \
    {                                                                                                                  \
        enum { BYTES = size / 8 };                                                                                     \
        const __m##size##i swap = broadcast(SWAP);                                                                     \
        __m##size##i number = _mm##size##_add_epi64(NUMBERS##size, LOW##size(block)), key[MPC_AES_ROUNDS + 1];          \
        for (int r = 0; r <= MPC_AES_ROUNDS; r++)                                                                      \
            key[r] = broadcast(keys[r]);                                                                               \
        for (uint8_t *end = out + count * STRETCH; out < end; out += GROUPS * BYTES) {                                 \
            __m##size##i x[GROUPS];                                                                                    \
            _Pragma("GCC unroll 8") for (int i = 0; i < GROUPS; i++)                                                   \
            {                                                                                                          \
                x[i] = xor(_mm##size##_shuffle_epi8(number, swap), key[0]);                                            \
                number = _mm##size##_add_epi64(number, LOW##size(BYTES / BLOCK));                                      \
            }                                                                                                          \
            _Pragma("GCC unroll 10") for (int r = 1; r < MPC_AES_ROUNDS; r++)                                          \
                _Pragma("GCC unroll 8") for (int i = 0; i < GROUPS; i++)                                               \
                    x[i] = _mm##size##_aesenc_epi128(x[i], key[r]);                                                    \
            _Pragma("GCC unroll 8") for (int i = 0; i < GROUPS; i++)                                                   \
                store((void *)(out + BYTES * i), _mm##size##_aesenclast_epi128(x[i], key[MPC_AES_ROUNDS]));            \
        }                                                                                                              \
    }

CIPHER(256, _mm256_broadcastsi128_si256, _mm256_xor_si256, _mm256_storeu_si256)
CIPHER(512, _mm512_broadcast_i32x4, _mm512_xor_si512, _mm512_storeu_si512)

struct job {
    __m128i keys[MPC_AES_ROUNDS + 1];
    cipher cipher;
    uint64_t first; /* byte */
    int64_t count;  /* of them */
    uint8_t *out;
};

static void share(void *context, int64_t index)
{
    const struct job *job = context;
    int64_t at = index * SHARE, end = mpc_min(at + SHARE, job->count);
    while (at < end) {
        uint64_t place = job->first + (uint64_t)at, inside = place % BLOCK; /* nonzero at first only */
        int64_t whole = inside ? 0 : (end - at) / STRETCH;
        if (whole) {
            job->cipher(job->keys, place / BLOCK, whole, job->out + at);
            at += whole * STRETCH;
            continue;
        }
        uint8_t some[STRETCH];
        int64_t taken = mpc_min(end - at, inside ? BLOCK - (int64_t)inside : STRETCH);
        job->cipher(job->keys, place / BLOCK, 1, some);
        memcpy(job->out + at, some + inside, (size_t)taken);
        at += taken;
    }
}

/* out[0 .. count): bytes first .. first + count of the keystream of a key. */
MPC_EXPORT MPC_TARGET_AES int mpc_keystream(int level, int threads, const uint8_t *key, uint64_t first, int64_t count,
                                            uint8_t *out)
{
    struct job job = {.first = first, .count = count, .out = out};
    job.cipher = level >= MPC_AVX512 ? cipher512 : cipher256;
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
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (c & VAES);
#else
    return 0;
#endif
}
