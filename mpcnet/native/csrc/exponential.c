/* e^x for opened x (protocols/exponential.py): three entries of a dealt row of 16, times public factors. */

#include "kernels.h"

enum { BUCKETS = 16 };

/* out = sum over j = 0, -1, -2 of factor_j(low) shares[(high - j) mod 16]; coarse holds the tables of the three j. */
MPC_EXPORT int mpc_exponential_sum(int level, int threads, const int64_t *words, int64_t count, int low_bits,
                                   int fine_bits, const int64_t *coarse, const int64_t *fine, int shift,
                                   const int64_t *shares, int64_t *out)
{
    (void)level;
    (void)threads;
    int64_t coarse_size = (int64_t)1 << (low_bits - fine_bits), half = (int64_t)1 << (shift - 1);
    for (int64_t i = 0; i < count; i++) {
        int64_t word = words[i], high = word >> low_bits, low = word & (int64_t)mpc_mask(low_bits);
        int64_t digit = low >> fine_bits, times = fine[low & (int64_t)mpc_mask(fine_bits)];
        const int64_t *row = shares + BUCKETS * i;
        uint64_t total = 0;
        for (int k = 0; k < 3; k++)
            total += (uint64_t)((coarse[k * coarse_size + digit] * times + half) >> shift) *
                     (uint64_t)row[(high + k) & (BUCKETS - 1)];
        out[i] = (int64_t)total;
    }
    return MPC_DONE;
}

/* The dealer's rows: values[low] at entry `high`, 0 elsewhere. */
MPC_EXPORT int mpc_exponential_rows(int level, int threads, const int64_t *words, int64_t count, int low_bits,
                                    const int64_t *values, int64_t *rows)
{
    (void)level;
    (void)threads;
    memset(rows, 0, (size_t)(count * BUCKETS) * sizeof *rows);
    for (int64_t i = 0; i < count; i++)
        rows[BUCKETS * i + (words[i] >> low_bits)] = values[words[i] & (int64_t)mpc_mask(low_bits)];
    return MPC_DONE;
}
