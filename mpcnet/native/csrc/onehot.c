/* One-hot tables of digits (mpcnet/onehot.py): made by the dealer, read by the servers at public digits.
 *
 * A row holds the tables of all digits of a word side by side, lowest digit first; a digit of b >= 3 bits has a table of
 * 2^b bits, that is 2^(b - 3) bytes.
 */

#include "kernels.h"

MPC_EXPORT int mpc_onehot_tables(int level, int threads, const int64_t *words, int64_t count, const int64_t *sizes,
                                 int digits, int drop, uint8_t *rows)
{
    (void)level;
    (void)threads;
    int64_t row_bytes = 0;
    for (int d = 0; d < digits; d++)
        row_bytes += (int64_t)1 << (sizes[d] - 3);
    memset(rows, 0, (size_t)(count * row_bytes));
    for (int64_t i = 0; i < count; i++) {
        uint64_t word = (uint64_t)words[i] >> drop;
        uint8_t *table = rows + i * row_bytes;
        for (int d = 0; d < digits; d++) {
            uint64_t digit = word & mpc_mask((int)sizes[d]);
            table[digit >> 3] |= (uint8_t)(1u << (digit & 7));
            table += (int64_t)1 << (sizes[d] - 3);
            word >>= sizes[d];
        }
    }
    return MPC_DONE;
}

/* The parity of the entries above `digit`, and in bit 1 the entry at it. */
MPC_INLINE unsigned look_up(const uint8_t *table, int size, uint64_t digit)
{
    uint64_t above = 0, entry = 0;
    if (size <= 6) {
        uint64_t word = 0;
        memcpy(&word, table, (size_t)1 << (size - 3));
        above = (word >> digit) >> 1;
        entry = word >> digit;
    } else {
        uint64_t word;
        int64_t at = (int64_t)(digit >> 6), words = (int64_t)1 << (size - 6);
        memcpy(&word, table + 8 * at, 8);
        above = (word >> (digit & 63)) >> 1;
        entry = word >> (digit & 63);
        for (int64_t i = at + 1; i < words; i++) {
            memcpy(&word, table + 8 * i, 8);
            above ^= word;
        }
    }
    return (unsigned)(__builtin_parityll(above) | (entry & 1) << 1);
}

/* Bits for (public - level) >> drop, packed: planes[2 d] gets [public digit d < secret digit], planes[2 d + 1] gets
 * [public digit d = secret digit]. */
MPC_EXPORT int mpc_onehot_read(int level, int threads, const uint8_t *rows, const int64_t *words, int64_t count,
                               int64_t subtract, const int64_t *sizes, int digits, int drop, uint8_t *planes)
{
    (void)level;
    (void)threads;
    int64_t plane_bytes = (count + 7) / 8;
    const uint8_t *table = rows;
    for (int64_t byte = 0; byte < plane_bytes; byte++) {
        unsigned less[16] = {0}, equal[16] = {0};
        int64_t rest = mpc_min(8, count - 8 * byte);
        for (int bit = 0; bit < rest; bit++) {
            uint64_t word = ((uint64_t)words[8 * byte + bit] - (uint64_t)subtract) >> drop;
            for (int d = 0; d < digits; d++) {
                unsigned found = look_up(table, (int)sizes[d], word & mpc_mask((int)sizes[d]));
                less[d] |= (found & 1) << bit;
                equal[d] |= (found >> 1) << bit;
                table += (int64_t)1 << (sizes[d] - 3);
                word >>= sizes[d];
            }
        }
        for (int d = 0; d < digits; d++) {
            planes[(2 * d) * plane_bytes + byte] = (uint8_t)less[d];
            planes[(2 * d + 1) * plane_bytes + byte] = (uint8_t)equal[d];
        }
    }
    return MPC_DONE;
}
