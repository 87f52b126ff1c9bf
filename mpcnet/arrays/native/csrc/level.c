/* Which instructions this processor and its system have. */

#define _GNU_SOURCE /* syscall */
#include "kernels.h"

#if MPC_X86 && MPC_HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux lets a process use tile registers once it has asked, since signal handlers need stacks that hold them. */
static int has_amx(void)
{
    enum { ASK = 0x1023, TILE_DATA = 18, TILES = 1 << 24, BYTES = 1 << 25 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & TILES) && (d & BYTES) &&
           syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
}
#elif MPC_X86
static int has_amx(void) { return 0; }
#endif

MPC_EXPORT int mpc_level(void)
{
#if MPC_X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
        return MPC_PORTABLE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return MPC_AVX2;
    if (!__builtin_cpu_supports("avx512ifma") || !__builtin_cpu_supports("avx512vbmi") ||
        !__builtin_cpu_supports("avx512vnni"))
        return MPC_AVX512;
    return has_amx() ? MPC_AMX : MPC_AVX512IFMA;
#else
    return MPC_PORTABLE;
#endif
}
