/* Trigonometric series in integers (protocols/series.py): the same sums and roundings, in one pass over memory.
 *
 * cos and sin of an angle come from two tables of its digits, of 30 fraction bits: first the cosines of all values of a
 * digit, then their sines.
 */

#include "kernels.h"

enum { TRIG_FRAC = 30, BLOCK = 512 };

struct angles { /* one turn is 2^size; the fine digit has fine_bits of it */
    int size, fine_bits;
    const int32_t *coarse, *fine;
    const int64_t *words, *harmonics;
    int used; /* harmonics */
};

MPC_INLINE int64_t scaled(int64_t x) { return (x + ((int64_t)1 << (TRIG_FRAC - 1))) >> TRIG_FRAC; }

MPC_INLINE void read_angles(const struct angles *t, int64_t first, int64_t n, int64_t *angle)
{
    for (int64_t i = 0; i < n; i++)
        angle[i] = t->words[first + i];
}

MPC_INLINE void cos_sin(const struct angles *t, int64_t harmonic, const int64_t *angle, int64_t n, int64_t *cosine,
                        int64_t *sine)
{
    int64_t mask = (int64_t)mpc_mask(t->size), low = (int64_t)mpc_mask(t->fine_bits);
    const int32_t *coarse_cos = t->coarse, *coarse_sin = t->coarse + ((int64_t)1 << (t->size - t->fine_bits));
    const int32_t *fine_cos = t->fine, *fine_sin = t->fine + ((int64_t)1 << t->fine_bits);
    int fine_bits = t->fine_bits;
    if (fine_bits == 0) { /* nothing to multiply: the coarse table is exact */
        for (int64_t i = 0; i < n; i++) {
            int64_t a = (harmonic * angle[i]) & mask;
            cosine[i] = coarse_cos[a];
            sine[i] = coarse_sin[a];
        }
        return;
    }
    /* Table reads go one by one: in loops of their own they do not keep what is before and behind them from vectors. */
    int32_t high[BLOCK], rest[BLOCK], c[BLOCK], s[BLOCK], d[BLOCK], e[BLOCK];
    for (int64_t i = 0; i < n; i++) {
        int64_t a = (harmonic * angle[i]) & mask;
        high[i] = (int32_t)(a >> fine_bits);
        rest[i] = (int32_t)(a & low);
    }
    for (int64_t i = 0; i < n; i++) {
        c[i] = coarse_cos[high[i]];
        s[i] = coarse_sin[high[i]];
        d[i] = fine_cos[rest[i]];
        e[i] = fine_sin[rest[i]];
    }
    for (int64_t i = 0; i < n; i++) {
        cosine[i] = scaled((int64_t)c[i] * d[i] - (int64_t)s[i] * e[i]);
        sine[i] = scaled((int64_t)s[i] * d[i] + (int64_t)c[i] * e[i]);
    }
}

/* Words of 4 or 8 bytes. */
MPC_INLINE void store(void *out, int stored, int64_t first, int64_t n, const int64_t *from)
{
    if (stored == 4)
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)out)[first + i] = (int32_t)from[i];
    else
        for (int64_t i = 0; i < n; i++)
            ((int64_t *)out)[first + i] = from[i];
}

struct sum {
    struct angles angles;
    int stored; /* bytes of a word of the shares and of the result */
    int64_t count, constant;
    const int64_t *a, *b;
    const void *shares;
    void *out;
};

#define ADD_TERMS(type)                                                                                                \
    do {                                                                                                               \
        const type *share = (const type *)j->shares + 2 * h * count + first;                                           \
        for (int64_t i = 0; i < n; i++)                                                                                \
            total[i] += scaled(a * cosine[i] + b * sine[i]) * share[i] +                                               \
                        scaled(a * sine[i] - b * cosine[i]) * share[count + i];                                        \
    } while (0)

MPC_INLINE void sum_body(const void *job, int64_t first, int64_t n)
{
    const struct sum *j = job;
    int64_t angle[BLOCK], cosine[BLOCK], sine[BLOCK], total[BLOCK], count = j->count;
    read_angles(&j->angles, first, n, angle);
    for (int64_t i = 0; i < n; i++)
        total[i] = j->constant;
    for (int h = 0; h < j->angles.used; h++) {
        int64_t a = j->a[h], b = j->b[h];
        cos_sin(&j->angles, j->angles.harmonics[h], angle, n, cosine, sine);
        if (j->stored == 4)
            ADD_TERMS(int32_t);
        else
            ADD_TERMS(int64_t);
    }
    store(j->out, j->stored, first, n, total);
}

MPC_LOOP(sum)

/* out = constant + sum over harmonics of [a cos + b sin] C + [a sin - b cos] S, for `shares` of [2 harmonic, element]:
 * C and S of the first harmonic, of the second, and so on. */
MPC_EXPORT int mpc_series_sum(int level, int threads, const int64_t *words, int64_t count, int size,
                              int fine_bits, const int32_t *coarse, const int32_t *fine, const int64_t *harmonics,
                              int used, const int64_t *a, const int64_t *b, int64_t constant, const void *shares,
                              void *out, int stored)
{
    struct angles angles = {size, fine_bits, coarse, fine, words, harmonics, used};
    struct sum job = {angles, stored, count, constant, a, b, shares, out};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(sum, level), &job);
    return MPC_DONE;
}

struct waves {
    struct angles angles;
    int frac, stored;
    int64_t count;
    void *out;
};

MPC_INLINE void waves_body(const void *job, int64_t first, int64_t n)
{
    const struct waves *j = job;
    int64_t angle[BLOCK], wave[2][BLOCK];
    int shift = TRIG_FRAC - j->frac;
    int64_t half = (int64_t)1 << (shift - 1);
    read_angles(&j->angles, first, n, angle);
    for (int h = 0; h < j->angles.used; h++) {
        cos_sin(&j->angles, j->angles.harmonics[h], angle, n, wave[0], wave[1]);
        for (int k = 0; k < 2; k++) {
            for (int64_t i = 0; i < n; i++)
                wave[k][i] = (wave[k][i] + half) >> shift;
            store(j->out, j->stored, (2 * h + k) * j->count + first, n, wave[k]);
        }
    }
}

MPC_LOOP(waves)

/* The dealer's rows [cos k1, sin k1, cos k2, ...] of the masks, at `frac` fraction bits. */
MPC_EXPORT int mpc_series_waves(int level, int threads, const int64_t *words, int64_t count, int size,
                                int fine_bits, const int32_t *coarse, const int32_t *fine, const int64_t *harmonics,
                                int used, int frac, void *out, int stored)
{
    struct angles angles = {size, fine_bits, coarse, fine, words, harmonics, used};
    struct waves job = {angles, frac, stored, count, out};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(waves, level), &job);
    return MPC_DONE;
}
