/* Counts of 64 buckets from rotated one-hot rows (protocols/rowmax.py).
 *
 * counts[row][b] = sum over the kept keys of row of table[key][(opened - b) mod 64], mod 2^8 or 2^16.
 */

#include "kernels.h"

enum { BUCKETS = 64 };

#define COUNT(type)                                                                                                    \
    for (int64_t row = 0; row < rows; row++) {                                                                         \
        type sums[BUCKETS] = {0}, twice[2 * BUCKETS];                                                                  \
        for (int64_t key = row * keys; key < (row + 1) * keys; key++) {                                                \
            if (!keep[key])                                                                                            \
                continue;                                                                                              \
            const type *table = (const type *)tables + key * BUCKETS;                                                  \
            memcpy(twice, table, sizeof sums);                                                                         \
            memcpy(twice + BUCKETS, table, sizeof sums);                                                               \
            const type *turned = twice + (opened[key] & (BUCKETS - 1)) + 1; /* entry i belongs to bucket 63 - i */     \
            for (int i = 0; i < BUCKETS; i++)                                                                          \
                sums[i] = (type)(sums[i] + turned[i]);                                                                 \
        }                                                                                                              \
        for (int b = 0; b < BUCKETS; b++)                                                                              \
            ((type *)counts)[row * BUCKETS + b] = sums[BUCKETS - 1 - b];                                               \
    }

MPC_INLINE void count_body(const uint8_t *opened, const uint8_t *keep, const void *tables, int64_t rows, int64_t keys,
                           void *counts, int stored)
{
    if (stored == 1) {
        COUNT(uint8_t)
    } else {
        COUNT(uint16_t)
    }
}

MPC_CLONES(count,
           (const uint8_t *opened, const uint8_t *keep, const void *tables, int64_t rows, int64_t keys, void *counts,
            int stored),
           (opened, keep, tables, rows, keys, counts, stored))

MPC_EXPORT int mpc_histogram(int level, int threads, const uint8_t *opened, const uint8_t *keep, const void *tables,
                             int64_t rows, int64_t keys, void *counts, int stored)
{
    (void)threads;
    MPC_PICK(count, level)(opened, keep, tables, rows, keys, counts, stored);
    return MPC_DONE;
}

/* The dealer's rows: 1 at each word's own bucket. */
MPC_EXPORT int mpc_histogram_rows(int level, int threads, const uint8_t *words, int64_t count, void *rows, int stored)
{
    (void)level;
    (void)threads;
    memset(rows, 0, (size_t)(count * BUCKETS * stored));
    for (int64_t i = 0; i < count; i++) {
        if (stored == 1)
            ((uint8_t *)rows)[i * BUCKETS + (words[i] & (BUCKETS - 1))] = 1;
        else
            ((uint16_t *)rows)[i * BUCKETS + (words[i] & (BUCKETS - 1))] = 1;
    }
    return MPC_DONE;
}
