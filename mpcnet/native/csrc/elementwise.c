/* Sums of ring words in one pass over memory. */

#include "kernels.h"

/* out = (a + b) mod 2^bits, on words of 1, 2, 4 or 8 bytes. */
#define ADD(type)                                                                                                      \
    do {                                                                                                               \
        const type *x = a, *y = b, mask = (type)mpc_mask(bits);                                                        \
        type *z = out;                                                                                                 \
        for (int64_t i = 0; i < count; i++)                                                                            \
            z[i] = (type)(x[i] + y[i]) & mask;                                                                         \
    } while (0)

MPC_INLINE void add_body(const void *a, const void *b, void *out, int64_t count, int stored, int bits)
{
    switch (stored) {
    case 1: ADD(uint8_t); break;
    case 2: ADD(uint16_t); break;
    case 4: ADD(uint32_t); break;
    default: ADD(uint64_t);
    }
}

MPC_CLONES(add, (const void *a, const void *b, void *out, int64_t count, int stored, int bits),
           (a, b, out, count, stored, bits))

struct add_job {
    int level, stored, bits;
    int64_t count;
    const char *a, *b;
    char *out;
};

enum { CHUNK = 1 << 16 }; /* words: what a thread takes at a time */

static void add_chunk(void *context, int64_t index)
{
    const struct add_job *job = context;
    int64_t start = index * CHUNK, at = start * job->stored;
    int64_t count = mpc_min(CHUNK, job->count - start);
    MPC_PICK(add, job->level)(job->a + at, job->b + at, job->out + at, count, job->stored, job->bits);
}

MPC_EXPORT int mpc_add(int level, int threads, const void *a, const void *b, void *out, int64_t count, int stored,
                       int bits)
{
    struct add_job job = {level, stored, bits, count, a, b, out};
    mpc_parallel(threads, (count + CHUNK - 1) / CHUNK, add_chunk, &job);
    return MPC_DONE;
}
