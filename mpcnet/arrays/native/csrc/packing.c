/* The wire form of ring words: whole little-endian bytes. One pass over memory, and the words are reduced mod 2^bits on
 * the way: a carry above the ring would give a share away. */

#include "packing.h"
#include "words.h"

/* ---- words as wide as they are stored ---- */

#define WHOLE(type)                                                                                                    \
    do {                                                                                                               \
        const type *x = (const type *)a, *y = (const type *)b, mask = (type)mpc_mask(bits);                            \
        type *z = (type *)out;                                                                                         \
        if (!y)                                                                                                        \
            for (int64_t i = 0; i < count; i++)                                                                        \
                z[i] = x[i] & mask;                                                                                    \
        else if (negative)                                                                                             \
            for (int64_t i = 0; i < count; i++)                                                                        \
                z[i] = (type)(x[i] - y[i]) & mask;                                                                     \
        else                                                                                                           \
            for (int64_t i = 0; i < count; i++)                                                                        \
                z[i] = (type)(x[i] + y[i]) & mask;                                                                     \
    } while (0)

/* out = (a +- b) mod 2^bits; b may be NULL for nothing. */
MPC_INLINE void whole_body(const char *a, const char *b, int negative, char *out, int64_t count, int stored, int bits)
{
    switch (stored) {
    case 1: WHOLE(uint8_t); break;
    case 2: WHOLE(word16); break;
    case 4: WHOLE(word32); break;
    default: WHOLE(word64);
    }
}

MPC_CLONES(whole, (const char *a, const char *b, int negative, char *out, int64_t count, int stored, int bits),
           (a, b, negative, out, count, stored, bits))

/* ---- words of 3, 5, 6 or 7 bytes, one by one ---- */

MPC_INLINE uint64_t stored_word(const char *x, int64_t i, int stored)
{
    return stored == 8 ? ((const word64 *)x)[i] : ((const word32 *)x)[i];
}

static void pack_words(const struct mpc_run *run, const char *a, const char *b, int negative, char *out)
{
    uint64_t mask = mpc_mask(run->bits);
    for (int64_t i = 0; i < run->count; i++) {
        uint64_t other = b ? stored_word(b, i, run->stored) : 0;
        uint64_t word = stored_word(a, i, run->stored) + (negative ? 0 - other : other);
        word &= mask;
        memcpy(out + i * run->width, &word, (size_t)run->width);
    }
}

static void unpack_words(const struct mpc_run *run, const char *raw, const char *mine, char *out)
{
    uint64_t mask = mpc_mask(run->bits);
    for (int64_t i = 0; i < run->count; i++) {
        uint64_t word = 0;
        memcpy(&word, raw + i * run->width, (size_t)run->width);
        word = (word + (mine ? stored_word(mine, i, run->stored) : 0)) & mask;
        memcpy(out + i * run->stored, &word, (size_t)run->stored);
    }
}

/* ---- runs, shared out among threads ---- */

struct job {
    int level, negative;
    struct mpc_run run;
    const char *a, *b, *raw, *mine;
    char *out;
};

enum { CHUNK = 1 << 16 }; /* words: what a thread takes at a time */

static void pack_chunk(void *context, int64_t index)
{
    const struct job *job = context;
    struct mpc_run run = job->run;
    int64_t start = index * CHUNK;
    run.count = mpc_min(CHUNK, run.count - start);
    const char *a = job->a + start * run.stored, *b = job->b ? job->b + start * run.stored : NULL;
    char *out = job->out + start * run.width;
    if (run.width == run.stored) {
        MPC_PICK(whole, job->level)(a, b, job->negative, out, run.count, run.stored, run.bits);
    } else {
        int64_t done = mpc_pack_vectors(job->level, &run, a, b, job->negative, out);
        run.count -= done;
        pack_words(&run, a + done * run.stored, b ? b + done * run.stored : NULL, job->negative,
                   out + done * run.width);
    }
}

static void unpack_chunk(void *context, int64_t index)
{
    const struct job *job = context;
    struct mpc_run run = job->run;
    int64_t start = index * CHUNK;
    run.count = mpc_min(CHUNK, run.count - start);
    const char *raw = job->raw + start * run.width, *mine = job->mine ? job->mine + start * run.stored : NULL;
    char *out = job->out + start * run.stored;
    if (run.width == run.stored) {
        MPC_PICK(whole, job->level)(raw, mine, 0, out, run.count, run.stored, run.bits);
    } else {
        int64_t done = mpc_unpack_vectors(job->level, &run, raw, mine, out);
        run.count -= done;
        unpack_words(&run, raw + done * run.width, mine ? mine + done * run.stored : NULL, out + done * run.stored);
    }
}

/* out = the wire form of (a +- b) mod 2^bits; b may be NULL for nothing. */
MPC_EXPORT int mpc_pack(int level, int threads, const char *a, const char *b, int negative, char *out, int64_t count,
                        int stored, int bits)
{
    struct job job = {level, negative, {count, stored, (bits + 7) / 8, bits}, a, b, NULL, NULL, out};
    mpc_parallel(threads, (count + CHUNK - 1) / CHUNK, pack_chunk, &job);
    return MPC_DONE;
}

/* out = (the words whose wire form is `raw` + mine) mod 2^bits; mine may be NULL for nothing. */
MPC_EXPORT int mpc_unpack(int level, int threads, const char *raw, const char *mine, char *out, int64_t count,
                          int stored, int bits)
{
    struct job job = {level, 0, {count, stored, (bits + 7) / 8, bits}, NULL, NULL, raw, mine, out};
    mpc_parallel(threads, (count + CHUNK - 1) / CHUNK, unpack_chunk, &job);
    return MPC_DONE;
}
