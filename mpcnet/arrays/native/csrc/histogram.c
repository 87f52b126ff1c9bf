/* Counts of 32, 64, ... 512 buckets from rotated one-hot rows (protocols/rowmax.py).
 *
 * counts[row][b] = sum over the kept keys of row of table[key][(opened - b) mod buckets], mod 2^8.
 */

#include "buckets.h"

enum { ROWS = 8, BLOCK = 512, MOST = 512 }; /* rows of keys, and words, that a thread takes; most buckets */

struct count {
    int64_t keys;
    int buckets;
    const uint16_t *opened;
    const uint8_t *keep, *tables;
    uint8_t *counts;
};

MPC_INLINE void count_row(const struct count *j, int64_t row, int buckets)
{
    uint8_t sums[MOST] = {0}, twice[2 * MOST];
    int64_t keys = j->keys;
    for (int64_t key = row * keys; key < (row + 1) * keys; key++) {
        if (!j->keep[key])
            continue;
        memcpy(twice, j->tables + key * buckets, (size_t)buckets);
        memcpy(twice + buckets, j->tables + key * buckets, (size_t)buckets);
        const uint8_t *turned = twice + (j->opened[key] & (buckets - 1)) + 1; /* entry i: the i-th bucket from above */
        for (int i = 0; i < buckets; i++)
            sums[i] = (uint8_t)(sums[i] + turned[i]);
    }
    for (int b = 0; b < buckets; b++)
        j->counts[row * buckets + b] = sums[buckets - 1 - b];
}

MPC_INLINE void count_body(const void *job, int64_t first, int64_t n)
{
    const struct count *j = job;
    for (int64_t row = first; row < first + n; row++)
        MPC_BUCKETS(j->buckets, count_row, j, row)
}

MPC_LOOP(count)

MPC_EXPORT int mpc_histogram(int level, int threads, const uint16_t *opened, const uint8_t *keep, const uint8_t *tables,
                             int64_t rows, int64_t keys, int buckets, uint8_t *counts)
{
    struct count job = {keys, buckets, opened, keep, tables, counts};
    mpc_blocks(threads, rows, ROWS, MPC_PICK(count, level), &job);
    return MPC_DONE;
}

struct rows {
    int buckets;
    const uint16_t *words;
    uint8_t *rows;
};

static void rows_block(const void *job, int64_t first, int64_t n)
{
    const struct rows *j = job;
    int64_t buckets = j->buckets;
    uint8_t *rows = j->rows + first * buckets;
    memset(rows, 0, (size_t)(n * buckets));
    for (int64_t i = 0; i < n; i++)
        rows[i * buckets + (j->words[first + i] & (buckets - 1))] = 1;
}

/* The dealer's rows: 1 at each word's own bucket. Scattered writes are the same at every level. */
MPC_EXPORT int mpc_histogram_rows(int level, int threads, const uint16_t *words, int64_t count, int buckets,
                                  uint8_t *rows)
{
    (void)level;
    struct rows job = {buckets, words, rows};
    mpc_blocks(threads, count, BLOCK, rows_block, &job);
    return MPC_DONE;
}
