/* One-hot tables of digits (mpcnet/randomness/onehot.py): made by the dealer, read by the servers at public digits.
 *
 * A row holds the tables of all digits of a word side by side, lowest digit first; a digit of b >= 3 bits has a table of
 * 2^b bits, that is 2^(b - 3) bytes.
 */

#include "kernels.h"

/* Words that a thread takes at a time: to make tables of, and to read tables at, where a plane gets one word of 64 bits. */
enum { TABLES = 512, BLOCK = 64 };

static int64_t row_bytes_of(const int64_t *sizes, int digits)
{
    int64_t bytes = 0;
    for (int d = 0; d < digits; d++)
        bytes += (int64_t)1 << (sizes[d] - 3);
    return bytes;
}

struct tables {
    int digits, drop;
    int64_t row_bytes;
    const int64_t *words, *sizes;
    uint8_t *rows;
};

static void tables_block(const void *job, int64_t first, int64_t n)
{
    const struct tables *j = job;
    const int64_t *words = j->words + first, *sizes = j->sizes;
    uint8_t *table = j->rows + first * j->row_bytes;
    int digits = j->digits, drop = j->drop;
    memset(table, 0, (size_t)(n * j->row_bytes));
    for (int64_t i = 0; i < n; i++) {
        uint64_t word = (uint64_t)words[i] >> drop;
        for (int d = 0; d < digits; d++) {
            uint64_t digit = word & mpc_mask((int)sizes[d]);
            table[digit >> 3] |= (uint8_t)(1u << (digit & 7));
            table += (int64_t)1 << (sizes[d] - 3);
            word >>= sizes[d];
        }
    }
}

/* Scattered writes are the same at every level. */
MPC_EXPORT int mpc_onehot_tables(int level, int threads, const int64_t *words, int64_t count, const int64_t *sizes,
                                 int digits, int drop, uint8_t *rows)
{
    (void)level;
    struct tables job = {digits, drop, row_bytes_of(sizes, digits), words, sizes, rows};
    mpc_blocks(threads, count, TABLES, tables_block, &job);
    return MPC_DONE;
}

/* The table word that holds entry `digit`, for each element of a block; tables of up to 64 entries are one word. */
#define GATHER(type)                                                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
        type word;                                                                                                     \
        memcpy(&word, tables + i * row_bytes, sizeof word);                                                            \
        words[i] = word;                                                                                               \
    }

MPC_INLINE void gather(const uint8_t *tables, int64_t row_bytes, int size, int64_t n, uint64_t *words)
{
    switch (size) {
    case 3: GATHER(uint8_t) break;
    case 4: GATHER(uint16_t) break;
    case 5: GATHER(uint32_t) break;
    default: GATHER(uint64_t)
    }
}

MPC_INLINE uint64_t fold(uint64_t x)
{
    x ^= x >> 32;
    x ^= x >> 16;
    x ^= x >> 8;
    x ^= x >> 4;
    x ^= x >> 2;
    return x ^ x >> 1;
}

/* Parity of the entries above each public digit, and the entry at it, as one word of bits each. */
MPC_INLINE void look_up(const uint8_t *tables, int64_t row_bytes, int size, const uint64_t *digits, int64_t n,
                        uint64_t *less, uint64_t *equal)
{
    uint64_t words[BLOCK], above[BLOCK] = {0}, entry[BLOCK] = {0};
    if (size <= 6) {
        gather(tables, row_bytes, size, n, words);
        for (int64_t i = 0; i < n; i++) {
            entry[i] = words[i] >> digits[i];
            above[i] = fold(entry[i] >> 1);
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            const uint8_t *table = tables + i * row_bytes;
            int64_t at = (int64_t)(digits[i] >> 6);
            memcpy(&words[i], table + 8 * at, 8);
            entry[i] = words[i] >> (digits[i] & 63);
            above[i] = entry[i] >> 1;
            for (int64_t k = at + 1; k < (int64_t)1 << (size - 6); k++) {
                uint64_t word;
                memcpy(&word, table + 8 * k, 8);
                above[i] ^= word;
            }
            above[i] = fold(above[i]);
        }
    }
    uint64_t l = 0, e = 0;
    for (int64_t i = 0; i < BLOCK; i++) {
        l |= (above[i] & 1) << i;
        e |= (entry[i] & 1) << i;
    }
    *less = l;
    *equal = e;
}

struct read {
    int digits, drop;
    int64_t row_bytes, subtract, plane_bytes;
    const uint8_t *rows;
    const int64_t *words, *sizes;
    uint8_t *planes;
};

MPC_INLINE void read_body(const void *job, int64_t first, int64_t n)
{
    const struct read *j = job;
    const uint8_t *tables = j->rows + first * j->row_bytes;
    uint8_t *plane = j->planes + first / 8;
    uint64_t rest[BLOCK], digit[BLOCK], bits[2];
    for (int64_t i = 0; i < n; i++)
        rest[i] = ((uint64_t)j->words[first + i] - (uint64_t)j->subtract) >> j->drop;
    for (int d = 0; d < j->digits; d++) {
        int size = (int)j->sizes[d];
        for (int64_t i = 0; i < n; i++) {
            digit[i] = rest[i] & mpc_mask(size);
            rest[i] >>= size;
        }
        look_up(tables, j->row_bytes, size, digit, n, &bits[0], &bits[1]);
        for (int side = 0; side < 2; side++, plane += j->plane_bytes)
            memcpy(plane, &bits[side], (size_t)((n + 7) / 8));
        tables += (int64_t)1 << (size - 3);
    }
    uint64_t above = 0;
    for (int64_t i = 0; i < n; i++)
        above |= (rest[i] & 1) << i;
    memcpy(plane, &above, (size_t)((n + 7) / 8));
}

MPC_LOOP(read)

/* Bits for (public - subtract) >> drop, packed: planes[2 d] gets [public digit d < secret digit], planes[2 d + 1] gets
 * [public digit d = secret digit], and the plane behind all those the public bit above the digits. */
MPC_EXPORT int mpc_onehot_read(int level, int threads, const uint8_t *rows, const int64_t *words, int64_t count,
                               int64_t subtract, const int64_t *sizes, int digits, int drop, uint8_t *planes)
{
    struct read job = {digits, drop, row_bytes_of(sizes, digits), subtract, (count + 7) / 8, rows, words, sizes, planes};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(read, level), &job);
    return MPC_DONE;
}
