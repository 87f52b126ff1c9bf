/* Which tiles a level has, by the instructions that multiply; and the portable ones. Above these levels, AMX multiplies
 * with its own tile registers (matmul_amx.c), and products of few rows as avx512ifma does.
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

#include "matmul_tiles.h"
#include "words.h"

/* By the compiler's own vectors, which are NEON on aarch64. */

typedef uint32_t vector32 __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint16_t vector16 __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint32_t loose32 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t loose16 __attribute__((vector_size(16), aligned(1), may_alias));

#define PLAIN_ADD(loose, from, to, s, negative)                                                                        \
    do {                                                                                                               \
        const loose *source = (const loose *)(from);                                                                   \
        *(loose *)(to) = ((from) ? *source : (loose){0}) + (loose)((negative) ? -(s) : (s));                           \
    } while (0)

#define TILE portable_64
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

#define TILE portable_32
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

#define TILE portable_16
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

const struct mpc_tiles *mpc_matmul_tiles(int level, int bits)
{
#if MPC_X86
    if (level >= MPC_AVX512IFMA && bits <= 52)
        return bits > 32 ? &mpc_tiles_avx512ifma_52 : bits > 16 ? &mpc_tiles_avx512_32 : &mpc_tiles_avx512vnni_16;
    if (level >= MPC_AVX512)
        return bits > 32 ? &mpc_tiles_avx512_64 : bits > 16 ? &mpc_tiles_avx512_32 : &mpc_tiles_avx512_16;
    if (level == MPC_AVX2)
        return bits > 48   ? &mpc_tiles_avx2_64
               : bits > 40 ? &mpc_tiles_avx2_48
               : bits > 32 ? &mpc_tiles_avx2_40
               : bits > 16 ? &mpc_tiles_avx2_32
                           : &mpc_tiles_avx2_16;
#endif
    (void)level;
    return bits > 32 ? &mpc_tiles_portable_64 : bits > 16 ? &mpc_tiles_portable_32 : &mpc_tiles_portable_16;
}
