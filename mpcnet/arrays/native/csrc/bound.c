/* The bound of the matrix product: how fast this core does nothing but the instructions that a tile multiplies and adds
 * with, on registers. For benchmarks. */

#include "amx.h"
#include "kernels.h"

#if MPC_X86

/* Twelve sums, which do not wait for each other. */
#define TWELVE(step) step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)
#define SUMS                                                                                                           \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13"

#define LOOP(name, target, step)                                                                                       \
    target static void name(int64_t count)                                                                             \
    {                                                                                                                  \
        for (int64_t i = 0; i < count; i++)                                                                            \
            __asm__ volatile(TWELVE(step) : : : SUMS);                                                                 \
    }

#define ONE(multiply, sum) multiply " %%zmm14, %%zmm15, %%zmm" #sum "\n\t"
#define TWO(multiply, add, vector, sum)                                                                                \
    multiply " %%" vector "14, %%" vector "15, %%" vector "12\n\t" add " %%" vector "12, %%" vector #sum               \
             ", %%" vector #sum "\n\t"

#define IFMA(sum) ONE("vpmadd52luq", sum)
#define PAIRS(sum) ONE("vpdpwssd", sum)
#define MULLQ(sum) TWO("vpmullq", "vpaddq", "zmm", sum)
#define MULLD(sum) TWO("vpmulld", "vpaddd", "zmm", sum)
#define MADDWD(sum) TWO("vpmaddwd", "vpaddd", "zmm", sum)
#define HALVES(sum) TWO("vpmuludq", "vpaddq", "ymm", sum) TWO("vpmulld", "vpaddd", "ymm", sum)
#define MULLD256(sum) TWO("vpmulld", "vpaddd", "ymm", sum)
#define MADDWD256(sum) TWO("vpmaddwd", "vpaddd", "ymm", sum)

LOOP(ifma, MPC_TARGET_AVX512IFMA, IFMA)
LOOP(pairs, MPC_TARGET_AVX512IFMA, PAIRS)
LOOP(mullq, MPC_TARGET_AVX512, MULLQ)
LOOP(mulld, MPC_TARGET_AVX512, MULLD)
LOOP(maddwd, MPC_TARGET_AVX512, MADDWD)
LOOP(halves, MPC_TARGET_AVX2, HALVES)
LOOP(mulld256, MPC_TARGET_AVX2, MULLD256)
LOOP(maddwd256, MPC_TARGET_AVX2, MADDWD256)

#if MPC_HAS_AMX
/* Twelve products of tiles, on six sums. */
MPC_TARGET_AMX static void tiles(int64_t count)
{
    const struct mpc_tile_sizes sizes = mpc_whole_tiles();
    _tile_loadconfig(&sizes);
    for (int64_t i = 0; i < count; i++) {
        MPC_EACH_SUM(MPC_MULTIPLY_TILES)
        MPC_EACH_SUM(MPC_MULTIPLY_TILES)
    }
    _tile_release();
}
#endif

struct bound {
    void (*loop)(int64_t count);
    int products, steps; /* how many products of words take how many steps */
};

static struct bound find(int level, int bits)
{
#if MPC_HAS_AMX
    int limbs = (bits + 7) / 8;
    if (level >= MPC_AMX)
        return (struct bound){tiles, 16 * 16 * 64, limbs * (limbs + 1) / 2};
#endif
    if (level >= MPC_AVX512) {
        if (bits > 32)
            return (struct bound){level >= MPC_AVX512IFMA && bits <= 52 ? ifma : mullq, 8, 1};
        if (bits > 16)
            return (struct bound){mulld, 16, 1};
        return (struct bound){level >= MPC_AVX512IFMA ? pairs : maddwd, 32, 1};
    }
    if (bits > 48)
        return (struct bound){halves, 4, 1};
    if (bits > 32) /* products of digits: matmul_digits.c */
        return (struct bound){maddwd256, 16, bits > 40 ? 7 : 5};
    return bits > 16 ? (struct bound){mulld256, 8, 1} : (struct bound){maddwd256, 16, 1};
}

#endif

/* Do some `count` products of words in registers; `done` is how many, or 0 where the level names no instructions. */
MPC_EXPORT int mpc_bound(int level, int threads, int bits, int64_t count, int64_t *done)
{
    (void)threads;
    *done = 0;
#if MPC_X86
    if (level >= MPC_AVX2) {
        struct bound bound = find(level, bits);
        int64_t rounds = count * bound.steps / (12 * bound.products) + 1;
        bound.loop(rounds);
        *done = rounds * 12 * bound.products / bound.steps;
    }
#else
    (void)level, (void)bits, (void)count;
#endif
    return MPC_DONE;
}
