/* What every kernel file shares: levels of the processor, run-time dispatch, threads.
 *
 * A kernel is an exported function mpc_NAME(int level, int threads, ...). It returns 0, or MPC_NO_MEMORY. `level` is one
 * of those below and never above mpc_level(); it is an argument, not a global, so that tests can run each of them.
 * Pointers come from checked, contiguous tensors: a kernel may trust its sizes, and must not read or write past them.
 */

#ifndef MPCNET_KERNELS_H
#define MPCNET_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Goes up with every change of an exported function; mpcnet/arrays/native/library.py wants the same number. */
#define MPC_ABI 13

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are read as bytes, lowest first"
#endif

enum { MPC_PORTABLE, MPC_AVX2, MPC_AVX512, MPC_AVX512IFMA, MPC_AMX };
enum { MPC_DONE, MPC_NO_MEMORY };

#define MPC_EXPORT __attribute__((visibility("default")))
#define MPC_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#define MPC_X86 1
#include <immintrin.h>
#if defined(__clang__)
#define MPC_WIDE __attribute__((min_vector_width(512)))
#else
#define MPC_WIDE __attribute__((target("prefer-vector-width=512")))
#endif
/* Functions marked so may use the instructions of that level; each level has those of the levels below. */
#define MPC_TARGET_AVX2 __attribute__((target("avx2,bmi,bmi2")))
#define MPC_TARGET_AVX512 MPC_WIDE __attribute__((target("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl")))
#define MPC_TARGET_AVX512IFMA                                                                                          \
    MPC_WIDE __attribute__((                                                                                           \
        target("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vbmi,avx512vnni")))

/* Tile registers: compilers since GCC 11 and Clang 12 know them, and Linux hands them out. */
#if defined(__linux__) && (__GNUC__ >= 11 || __clang_major__ >= 12)
#define MPC_HAS_AMX 1
#define MPC_TARGET_AMX                                                                                                 \
    MPC_WIDE __attribute__((target(                                                                                    \
        "avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vbmi,avx512vnni,amx-tile,amx-int8")))
#endif

/* MPC_CLONES(f, (int64_t n, ...), (n, ...)): the MPC_INLINE function f_body, compiled (and vectorised) for each level.
 * MPC_PICK(f, level) is the clone for a level. */
#define MPC_CLONES(name, parameters, arguments)                                                                        \
    static void name##_portable parameters { name##_body arguments; }                                                  \
    MPC_TARGET_AVX2 static void name##_avx2 parameters { name##_body arguments; }                                      \
    MPC_TARGET_AVX512 static void name##_avx512 parameters { name##_body arguments; }                                  \
    MPC_TARGET_AVX512IFMA static void name##_avx512ifma parameters { name##_body arguments; }
#define MPC_PICK(name, level)                                                                                          \
    ((level) >= MPC_AVX512IFMA ? name##_avx512ifma                                                                     \
     : (level) == MPC_AVX512   ? name##_avx512                                                                         \
     : (level) == MPC_AVX2     ? name##_avx2                                                                           \
                               : name##_portable)
#else
#define MPC_X86 0
#define MPC_CLONES(name, parameters, arguments)                                                                        \
    static void name##_portable parameters { name##_body arguments; }
#define MPC_PICK(name, level) ((void)(level), name##_portable)
#endif

/* task(context, index) for each index below count, shared out among the calling thread and threads - 1 more. */
typedef void (*mpc_task)(void *context, int64_t index);
void mpc_parallel(int threads, int64_t count, mpc_task task, void *context);

/* The loop of kernels that work element by element: on elements first ... first + n - 1 of what `job` describes.
 * MPC_LOOP(f) compiles f_body for every level; mpc_blocks(threads, count, block, MPC_PICK(f, level), &job) runs it over
 * `count` elements, `block` of them at a time (fewer in the last), shared out among threads. */
typedef void (*mpc_loop)(const void *job, int64_t first, int64_t n);
#define MPC_LOOP(name) MPC_CLONES(name, (const void *job, int64_t first, int64_t n), (job, first, n))
void mpc_blocks(int threads, int64_t count, int64_t block, mpc_loop loop, const void *job);

/* Bits above a ring of `bits` cleared: the mask of its words. */
MPC_INLINE uint64_t mpc_mask(int bits) { return bits >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits) - 1; }

MPC_INLINE int64_t mpc_min(int64_t a, int64_t b) { return a < b ? a : b; }

#endif
