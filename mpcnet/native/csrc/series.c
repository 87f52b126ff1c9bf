/* Trigonometric series in integers (protocols/series.py): the same sums and roundings, in one pass over memory.
 *
 * cos and sin of an angle come from two tables of its digits, of 30 fraction bits: coarse holds 2^coarse_bits entries of
 * (cos, sin), fine 2^fine_bits.
 */

#include "kernels.h"

enum { TRIG_FRAC = 30, BLOCK = 512 };

struct angles {
    const int32_t *coarse_cos, *coarse_sin, *fine_cos, *fine_sin;
    int fine_bits, size;
};

MPC_INLINE int64_t scaled(int64_t x) { return (x + ((int64_t)1 << (TRIG_FRAC - 1))) >> TRIG_FRAC; }

MPC_INLINE void cos_sin(const struct angles *t, int64_t harmonic, const int64_t *angle, int64_t n, int64_t *cosine,
                        int64_t *sine)
{
    int64_t mask = (int64_t)mpc_mask(t->size), low = (int64_t)mpc_mask(t->fine_bits);
    if (t->fine_bits == 0) {
        for (int64_t i = 0; i < n; i++) {
            int64_t a = (harmonic * angle[i]) & mask;
            cosine[i] = t->coarse_cos[a];
            sine[i] = t->coarse_sin[a];
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t a = (harmonic * angle[i]) & mask;
        int64_t c = t->coarse_cos[a >> t->fine_bits], s = t->coarse_sin[a >> t->fine_bits];
        int64_t d = t->fine_cos[a & low], e = t->fine_sin[a & low];
        cosine[i] = scaled(c * d - s * e);
        sine[i] = scaled(s * d + c * e);
    }
}

/* out = constant + sum over harmonics of factor(cos) share + factor(sin) share, for `shares` of [2 harmonic, element];
 * the words are read and written in `stored` bytes. */
MPC_INLINE void sum_body(const struct angles *t, const int64_t *words, int64_t first, int64_t n, int64_t count,
                         int drop, const int64_t *harmonics, int used, const int64_t *a, const int64_t *b,
                         int64_t constant, const void *shares, void *out, int stored)
{
    int64_t angle[BLOCK], cosine[BLOCK], sine[BLOCK], total[BLOCK];
    for (int64_t i = 0; i < n; i++) {
        angle[i] = (int64_t)((uint64_t)words[first + i] >> drop);
        total[i] = constant;
    }
    for (int h = 0; h < used; h++) {
        int64_t p = a[h], q = b[h], at = 2 * h * count + first;
        cos_sin(t, harmonics[h], angle, n, cosine, sine);
        if (stored == 4) {
            const int32_t *share = (const int32_t *)shares + at;
            for (int64_t i = 0; i < n; i++)
                total[i] += scaled(p * cosine[i] + q * sine[i]) * share[i] +
                            scaled(p * sine[i] - q * cosine[i]) * share[count + i];
        } else {
            const int64_t *share = (const int64_t *)shares + at;
            for (int64_t i = 0; i < n; i++)
                total[i] += scaled(p * cosine[i] + q * sine[i]) * share[i] +
                            scaled(p * sine[i] - q * cosine[i]) * share[count + i];
        }
    }
    if (stored == 4)
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)out)[first + i] = (int32_t)total[i];
    else
        for (int64_t i = 0; i < n; i++)
            ((int64_t *)out)[first + i] = total[i];
}

MPC_CLONES(sum,
           (const struct angles *t, const int64_t *words, int64_t first, int64_t n, int64_t count, int drop,
            const int64_t *harmonics, int used, const int64_t *a, const int64_t *b, int64_t constant,
            const void *shares, void *out, int stored),
           (t, words, first, n, count, drop, harmonics, used, a, b, constant, shares, out, stored))

struct sum_job {
    int level, drop, used, stored;
    struct angles angles;
    int64_t count, constant;
    const int64_t *words, *harmonics, *a, *b;
    const void *shares;
    void *out;
};

static void sum_block(void *context, int64_t index)
{
    const struct sum_job *j = context;
    int64_t first = index * BLOCK;
    MPC_PICK(sum, j->level)(&j->angles, j->words, first, mpc_min(BLOCK, j->count - first), j->count, j->drop,
                            j->harmonics, j->used, j->a, j->b, j->constant, j->shares, j->out, j->stored);
}

MPC_EXPORT int mpc_series_sum(int level, int threads, const int64_t *words, int64_t count, int drop, int size,
                              int fine_bits, const int32_t *coarse_cos, const int32_t *coarse_sin,
                              const int32_t *fine_cos, const int32_t *fine_sin, const int64_t *harmonics, int used,
                              const int64_t *a, const int64_t *b, int64_t constant, const void *shares, void *out,
                              int stored)
{
    struct angles angles = {coarse_cos, coarse_sin, fine_cos, fine_sin, fine_bits, size};
    struct sum_job job = {level, drop, used, stored, angles, count, constant, words, harmonics, a, b, shares, out};
    mpc_parallel(threads, (count + BLOCK - 1) / BLOCK, sum_block, &job);
    return MPC_DONE;
}

/* The dealer's rows [cos k1, sin k1, cos k2, ...] of the masks, at `frac` fraction bits. */
MPC_INLINE void waves_body(const struct angles *t, const int64_t *words, int64_t first, int64_t n, int64_t count,
                           int drop, const int64_t *harmonics, int used, int frac, void *out, int stored)
{
    int64_t angle[BLOCK], wave[2][BLOCK];
    int shift = TRIG_FRAC - frac;
    int64_t half = (int64_t)1 << (shift - 1);
    for (int64_t i = 0; i < n; i++)
        angle[i] = (int64_t)((uint64_t)words[first + i] >> drop);
    for (int h = 0; h < used; h++) {
        cos_sin(t, harmonics[h], angle, n, wave[0], wave[1]);
        for (int half_turn = 0; half_turn < 2; half_turn++) {
            int64_t at = (2 * h + half_turn) * count + first;
            const int64_t *row = wave[half_turn];
            if (stored == 4)
                for (int64_t i = 0; i < n; i++)
                    ((int32_t *)out)[at + i] = (int32_t)((row[i] + half) >> shift);
            else
                for (int64_t i = 0; i < n; i++)
                    ((int64_t *)out)[at + i] = (row[i] + half) >> shift;
        }
    }
}

MPC_CLONES(waves,
           (const struct angles *t, const int64_t *words, int64_t first, int64_t n, int64_t count, int drop,
            const int64_t *harmonics, int used, int frac, void *out, int stored),
           (t, words, first, n, count, drop, harmonics, used, frac, out, stored))

struct waves_job {
    int level, drop, used, frac, stored;
    struct angles angles;
    int64_t count;
    const int64_t *words, *harmonics;
    void *out;
};

static void waves_block(void *context, int64_t index)
{
    const struct waves_job *j = context;
    int64_t first = index * BLOCK;
    MPC_PICK(waves, j->level)(&j->angles, j->words, first, mpc_min(BLOCK, j->count - first), j->count, j->drop,
                              j->harmonics, j->used, j->frac, j->out, j->stored);
}

MPC_EXPORT int mpc_series_waves(int level, int threads, const int64_t *words, int64_t count, int drop, int size,
                                int fine_bits, const int32_t *coarse_cos, const int32_t *coarse_sin,
                                const int32_t *fine_cos, const int32_t *fine_sin, const int64_t *harmonics, int used,
                                int frac, void *out, int stored)
{
    struct angles angles = {coarse_cos, coarse_sin, fine_cos, fine_sin, fine_bits, size};
    struct waves_job job = {level, drop, used, frac, stored, angles, count, words, harmonics, out};
    mpc_parallel(threads, (count + BLOCK - 1) / BLOCK, waves_block, &job);
    return MPC_DONE;
}
