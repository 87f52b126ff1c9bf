/* Products of bit matrices mod 2 (protocols/lookup.py): out[i] ^= the xor of those rows of a table that the bits of row i
 * of `chosen` name.
 *
 * Four Russians: the sums of any four rows are tabulated, so a sum of rows takes a quarter of the steps. A thread takes
 * COLUMNS bytes of the table for ROWS rows of the result; the tables of DEPTH rows at a time stay in the first cache, and
 * are read by public and by secret bits alike: which lines a thread touches tells nobody more than its own memory does.
 */

#include "kernels.h"
#include "words.h"

enum { COLUMNS = 128, WORDS = COLUMNS / 8, ROWS = 128, DEPTH = 32, DIGIT = 4, DIGITS = DEPTH / DIGIT, SUMS = 1 << DIGIT };

struct product {
    int64_t rows, depth, columns, stride; /* rows of the result and of the table; bytes of a table's row, of a chosen one */
    const uint8_t *chosen, *table;
    uint8_t *out;
};

/* All sums of the rows of each digit, from row `start` on; rows beyond the table are 0. */
MPC_INLINE void tabulate(const struct product *j, int64_t start, int64_t column, size_t width,
                         uint64_t sums[DIGITS][SUMS][WORDS])
{
    for (int d = 0; d < DIGITS; d++) {
        memset(sums[d][0], 0, COLUMNS);
        for (int b = 0; b < DIGIT; b++) {
            int64_t row = start + d * DIGIT + b;
            uint64_t single[WORDS] = {0};
            if (row < j->depth)
                memcpy(single, j->table + row * j->columns + column, width);
            if (row + DEPTH < j->depth) { /* rows lie far apart, and are read once */
                __builtin_prefetch(j->table + (row + DEPTH) * j->columns + column);
                __builtin_prefetch(j->table + (row + DEPTH) * j->columns + column + width - 1);
            }
            for (int s = 0; s < 1 << b; s++)
                for (int k = 0; k < WORDS; k++)
                    sums[d][(1 << b) + s][k] = sums[d][s][k] ^ single[k];
        }
    }
}

/* The bits of row `row` of `chosen` from `start` on, up to the end of the row. */
MPC_INLINE uint32_t bits_of(const struct product *j, int64_t row, int64_t start)
{
    const uint8_t *from = j->chosen + row * j->stride + start / 8;
    uint32_t bits = 0;
    if (start / 8 + (int64_t)sizeof bits <= j->stride)
        return *(const word32 *)from;
    memcpy(&bits, from, (size_t)(j->stride - start / 8));
    return bits;
}

MPC_INLINE void multiply_block(const struct product *j, int64_t row, int64_t column, size_t width)
{
    uint64_t sums[DIGITS][SUMS][WORDS], totals[ROWS][WORDS] = {0}; /* side by side: rows of `out` would share cache sets */
    int64_t count = mpc_min(ROWS, j->rows - row);
    for (int64_t start = 0; start < j->depth; start += DEPTH) {
        tabulate(j, start, column, width, sums);
        for (int64_t i = 0; i < count; i++) {
            uint32_t bits = bits_of(j, row + i, start);
            const uint64_t *sum[DIGITS];
            for (int d = 0; d < DIGITS; d++)
                sum[d] = sums[d][bits >> DIGIT * d & (SUMS - 1)];
            for (int k = 0; k < WORDS; k++)
                totals[i][k] ^= sum[0][k] ^ sum[1][k] ^ sum[2][k] ^ sum[3][k] ^ sum[4][k] ^ sum[5][k] ^ sum[6][k] ^ sum[7][k];
        }
    }
    for (int64_t i = 0; i < count; i++) {
        uint8_t *out = j->out + (row + i) * j->columns + column;
        uint64_t total[WORDS] = {0};
        memcpy(total, out, width);
        for (int k = 0; k < WORDS; k++)
            total[k] ^= totals[i][k];
        memcpy(out, total, width);
    }
}

MPC_INLINE void multiply_body(const void *job, int64_t first, int64_t n)
{
    const struct product *j = job;
    int64_t blocks = (j->columns + COLUMNS - 1) / COLUMNS;
    for (int64_t index = first; index < first + n; index++) {
        int64_t row = index / blocks * ROWS, column = index % blocks * COLUMNS, width = j->columns - column;
        if (width >= COLUMNS)
            multiply_block(j, row, column, COLUMNS);
        else
            multiply_block(j, row, column, (size_t)width);
    }
}

MPC_LOOP(multiply)

/* out [rows][columns], bytes, gets the product of `chosen` [rows][stride], bits, lowest first, and `table` [depth][columns]
 * added; a row of `chosen` has a bit for each row of the table, and what stands behind them does not count. */
MPC_EXPORT int mpc_bit_product(int level, int threads, const uint8_t *chosen, const uint8_t *table, int64_t rows,
                               int64_t depth, int64_t columns, int64_t stride, uint8_t *out)
{
    struct product job = {rows, depth, columns, stride, chosen, table, out};
    int64_t count = (rows + ROWS - 1) / ROWS * ((columns + COLUMNS - 1) / COLUMNS);
    mpc_blocks(threads, count, 1, MPC_PICK(multiply, level), &job);
    return MPC_DONE;
}
