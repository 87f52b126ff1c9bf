/* Parities of rotated one-hot rows of bits (protocols/parities.py), of 32, 64, ... 512 buckets.
 *
 * A table has a bit for each bucket. Turned down by opened + 1 and added up mod 2 from the lowest on, bit i of it is
 * [the key lies in one of the i + 1 highest buckets]. parities[row][i] is the xor of the coefficients [key][i] of the
 * kept keys that have this bit.
 */

#include "buckets.h"
#include "words.h"

enum { ROWS = 8, KEYS = 32, MOST = 512 }; /* that a thread takes at a time: their sums and coefficients stay in cache */

struct parity {
    int64_t keys;
    int buckets, bytes; /* of a parity */
    const uint16_t *opened;
    const uint8_t *keep, *tables;
    const uint64_t *coefficients;
    uint8_t *parities;
};

/* The turned table, added up: mod 2 as words. */
MPC_INLINE void turn(const uint8_t *table, uint64_t by, int buckets, uint64_t *turned)
{
    int words = (buckets + 63) / 64;
    uint64_t entries[MOST / 64];
    if (buckets == 32)
        entries[0] = *(const word32 *)table * 0x100000001; /* twice */
    else
        memcpy(entries, table, (size_t)buckets / 8);
    uint64_t carry = 0, down = by & 63;
    for (int w = 0; w < words; w++) {
        uint64_t low = entries[(by / 64 + (uint64_t)w) & (uint64_t)(words - 1)];
        uint64_t high = entries[(by / 64 + (uint64_t)w + 1) & (uint64_t)(words - 1)];
        uint64_t x = low >> down | high << 1 << (63 - down);
        for (int shift = 1; shift < 64; shift *= 2)
            x ^= x << shift;
        turned[w] = x ^ carry;
        carry = 0 - (turned[w] >> 63);
    }
}

MPC_INLINE void add_where(uint64_t *restrict sums, const uint64_t *restrict own, uint64_t bits, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        sums[i] ^= own[i] & (0 - (bits >> i & 1));
}

/* Of a row: adds some of its keys. */
MPC_INLINE void add_keys(const struct parity *j, int64_t row, int64_t first, int64_t n, uint64_t *sums, int buckets)
{
    uint64_t turned[MOST / 64];
    for (int64_t key = first; key < first + n; key++) {
        int64_t at = row * j->keys + key;
        if (!j->keep[at])
            continue;
        turn(j->tables + at * buckets / 8, (j->opened[at] + 1u) & (uint64_t)(buckets - 1), buckets, turned);
        const uint64_t *own = j->coefficients + key * buckets;
        for (int w = 0; w < (buckets + 63) / 64; w++)
            add_where(sums + 64 * w, own + 64 * w, turned[w], buckets < 64 ? 32 : 64);
    }
}

MPC_INLINE void parity_body(const void *job, int64_t first, int64_t n)
{
    const struct parity *j = job;
    uint64_t sums[ROWS][MOST] = {0};
    for (int64_t key = 0; key < j->keys; key += KEYS)
        for (int64_t i = 0; i < n; i++)
            MPC_BUCKETS(j->buckets, add_keys, j, first + i, key, mpc_min(KEYS, j->keys - key), sums[i])
    uint8_t *to = j->parities + first * (j->buckets - 1) * j->bytes;
    for (int64_t i = 0; i < n; i++)
        for (int b = 0; b < j->buckets - 1; b++, to += j->bytes)
            memcpy(to, &sums[i][b], (size_t)j->bytes);
}

MPC_LOOP(parity)

/* The lowest `bytes` bytes of every parity but that of all buckets together. */
MPC_EXPORT int mpc_parity(int level, int threads, const uint16_t *opened, const uint8_t *keep, const uint8_t *tables,
                          const uint64_t *coefficients, int64_t rows, int64_t keys, int buckets, uint8_t *parities,
                          int bytes)
{
    struct parity job = {keys, buckets, bytes, opened, keep, tables, coefficients, parities};
    mpc_blocks(threads, rows, ROWS, MPC_PICK(parity, level), &job);
    return MPC_DONE;
}
