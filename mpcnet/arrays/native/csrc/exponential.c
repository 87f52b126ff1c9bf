/* e^x for opened x (protocols/exponential.py): three entries of a dealt row, times public factors.
 *
 * A row has a power of two of entries, in blocks of a power of two. The bits of a word from low_bits on number one of
 * them; what stands above counts for nothing.
 */

#include "kernels.h"

enum { TERMS = 3, BLOCK = 512 };

struct sum {
    int64_t entries, near;
    int low_bits, fine_bits, shift;
    const int64_t *words, *coarse, *fine, *shares;
    int64_t *out;
};

static void sum_block(const void *job, int64_t first, int64_t n)
{
    const struct sum *j = job;
    int64_t entries = j->entries, last = j->near - 1, *out = j->out + first;
    const int64_t *words = j->words + first, *shares = j->shares + entries * first, *fine = j->fine;
    int low_bits = j->low_bits, fine_bits = j->fine_bits, shift = j->shift;
    int64_t low_mask = (int64_t)mpc_mask(low_bits), fine_mask = (int64_t)mpc_mask(fine_bits);
    int64_t half = (int64_t)1 << (shift - 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t high = words[i] >> low_bits, low = words[i] & low_mask, times = fine[low & fine_mask];
        const int64_t *near = shares + entries * i + (high & (entries - 1) & ~last);
        uint64_t total = 0;
        for (int k = 0; k < TERMS; k++) {
            const int64_t *coarse = j->coarse + ((int64_t)k << (low_bits - fine_bits));
            uint64_t factor = (uint64_t)((coarse[low >> fine_bits] * times + half) >> shift);
            total += factor * (uint64_t)near[(high + k) & last];
        }
        out[i] = (int64_t)total;
    }
}

/* out = sum over k < 3 of factor_k(low) times the entry k behind `high` in its block of `near`, round and round; coarse
 * holds the tables of the three k. Time goes into reading entries here and there, which no level does faster. */
MPC_EXPORT int mpc_exponential_sum(int level, int threads, const int64_t *words, int64_t count, int64_t entries,
                                   int64_t near, int low_bits, int fine_bits, const int64_t *coarse,
                                   const int64_t *fine, int shift, const int64_t *shares, int64_t *out)
{
    (void)level;
    struct sum job = {entries, near, low_bits, fine_bits, shift, words, coarse, fine, shares, out};
    mpc_blocks(threads, count, BLOCK, sum_block, &job);
    return MPC_DONE;
}

struct rows {
    int64_t entries;
    int low_bits;
    const int64_t *words, *values;
    int64_t *rows;
};

static void rows_block(const void *job, int64_t first, int64_t n)
{
    const struct rows *j = job;
    const int64_t *words = j->words + first;
    int64_t entries = j->entries, *rows = j->rows + entries * first, mask = (int64_t)mpc_mask(j->low_bits);
    memset(rows, 0, (size_t)(n * entries) * sizeof *rows);
    for (int64_t i = 0; i < n; i++)
        rows[entries * i + ((words[i] >> j->low_bits) & (entries - 1))] = j->values[words[i] & mask];
}

/* The dealer's rows: values[low] at entry `high`, 0 elsewhere. Scattered writes are the same at every level. */
MPC_EXPORT int mpc_exponential_rows(int level, int threads, const int64_t *words, int64_t count, int64_t entries,
                                    int low_bits, const int64_t *values, int64_t *rows)
{
    (void)level;
    struct rows job = {entries, low_bits, words, values, rows};
    mpc_blocks(threads, count, BLOCK, rows_block, &job);
    return MPC_DONE;
}
