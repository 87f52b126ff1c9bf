/* Sums of ring words in one pass over memory. */

#include "kernels.h"

enum { BLOCK = 1 << 16 }; /* words: what a thread takes at a time */

struct add {
    int stored, bits;
    const void *a, *b;
    void *out;
};

#define ADD(type)                                                                                                      \
    do {                                                                                                               \
        const type *a = (const type *)j->a + first, *b = (const type *)j->b + first, mask = (type)mpc_mask(j->bits);   \
        type *out = (type *)j->out + first;                                                                            \
        for (int64_t i = 0; i < n; i++)                                                                                \
            out[i] = (type)(a[i] + b[i]) & mask;                                                                       \
    } while (0)

MPC_INLINE void add_body(const void *job, int64_t first, int64_t n)
{
    const struct add *j = job;
    switch (j->stored) {
    case 1: ADD(uint8_t); break;
    case 2: ADD(uint16_t); break;
    case 4: ADD(uint32_t); break;
    default: ADD(uint64_t);
    }
}

MPC_LOOP(add)

/* out = (a + b) mod 2^bits, on words of 1, 2, 4 or 8 bytes. */
MPC_EXPORT int mpc_add(int level, int threads, const void *a, const void *b, void *out, int64_t count, int stored,
                       int bits)
{
    struct add job = {stored, bits, a, b, out};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(add, level), &job);
    return MPC_DONE;
}
