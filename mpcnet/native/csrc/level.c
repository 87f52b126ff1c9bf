/* Which instructions this processor and its system have. */

#include "kernels.h"

MPC_EXPORT int mpc_abi(void) { return MPC_ABI; }

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
    return MPC_AVX512IFMA;
#else
    return MPC_PORTABLE;
#endif
}
