/* Counts of 32, 64, ... 512 buckets from rotated one-hot rows (protocols/rowmax.py).
 *
 * counts[row][b] = sum over the kept keys of row of table[key][(opened - b) mod buckets], mod 2^8 or 2^16.
 */

#include "kernels.h"

enum { ROWS = 8, BLOCK = 512 }; /* rows of keys, and words, that a thread takes at a time */

struct count {
    int64_t keys;
    int buckets, stored;
    const uint16_t *opened;
    const uint8_t *keep;
    const void *tables;
    void *counts;
};

#define COUNT(type, BUCKETS)                                                                                           \
    do {                                                                                                               \
        type sums[BUCKETS] = {0}, twice[2 * BUCKETS];                                                                  \
        for (int64_t key = row * keys; key < (row + 1) * keys; key++) {                                                \
            if (!keep[key])                                                                                            \
                continue;                                                                                              \
            const type *table = (const type *)j->tables + key * BUCKETS;                                               \
            memcpy(twice, table, sizeof sums);                                                                         \
            memcpy(twice + BUCKETS, table, sizeof sums);                                                               \
            const type *turned = twice + (opened[key] & (BUCKETS - 1)) + 1; /* entry i: the i-th bucket from above */  \
            for (int i = 0; i < BUCKETS; i++)                                                                          \
                sums[i] = (type)(sums[i] + turned[i]);                                                                 \
        }                                                                                                              \
        for (int b = 0; b < BUCKETS; b++)                                                                              \
            ((type *)j->counts)[row * BUCKETS + b] = sums[BUCKETS - 1 - b];                                            \
    } while (0)

#define COUNT_ANY(type)                                                                                                \
    do {                                                                                                               \
        if (j->buckets == 512)                                                                                         \
            COUNT(type, 512);                                                                                          \
        else if (j->buckets == 256)                                                                                    \
            COUNT(type, 256);                                                                                          \
        else if (j->buckets == 128)                                                                                    \
            COUNT(type, 128);                                                                                          \
        else if (j->buckets == 64)                                                                                     \
            COUNT(type, 64);                                                                                           \
        else                                                                                                           \
            COUNT(type, 32);                                                                                           \
    } while (0)

MPC_INLINE void count_body(const void *job, int64_t first, int64_t n)
{
    const struct count *j = job;
    const uint16_t *opened = j->opened;
    const uint8_t *keep = j->keep;
    int64_t keys = j->keys;
    for (int64_t row = first; row < first + n; row++) {
        if (j->stored == 1)
            COUNT_ANY(uint8_t);
        else
            COUNT_ANY(uint16_t);
    }
}

MPC_LOOP(count)

MPC_EXPORT int mpc_histogram(int level, int threads, const uint16_t *opened, const uint8_t *keep, const void *tables,
                             int64_t rows, int64_t keys, int buckets, void *counts, int stored)
{
    struct count job = {keys, buckets, stored, opened, keep, tables, counts};
    mpc_blocks(threads, rows, ROWS, MPC_PICK(count, level), &job);
    return MPC_DONE;
}

struct rows {
    int buckets, stored;
    const uint16_t *words;
    char *rows;
};

static void rows_block(const void *job, int64_t first, int64_t n)
{
    const struct rows *j = job;
    int64_t buckets = j->buckets;
    char *rows = j->rows + first * buckets * j->stored;
    memset(rows, 0, (size_t)(n * buckets * j->stored));
    for (int64_t i = 0; i < n; i++)
        rows[(i * buckets + (j->words[first + i] & (buckets - 1))) * j->stored] = 1; /* the lowest byte of a word */
}

/* The dealer's rows: 1 at each word's own bucket. Scattered writes are the same at every level. */
MPC_EXPORT int mpc_histogram_rows(int level, int threads, const uint16_t *words, int64_t count, int buckets, void *rows,
                                  int stored)
{
    (void)level;
    struct rows job = {buckets, stored, words, rows};
    mpc_blocks(threads, count, BLOCK, rows_block, &job);
    return MPC_DONE;
}
