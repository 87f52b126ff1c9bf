/* Point functions (mpcnet/randomness/fss.py): the dealer's corrections, and a server's sum over all cells of its shares times a
 * cubic (protocols/cells.py). The same bytes as there, by the processor's AES instructions; where it has none, Python
 * does it. One version, for AVX2: wider registers gained nothing beside AES, and four blocks to a register (VAES) a
 * quarter, under 1% of a layer.
 *
 * A node's seed is a block of two words. Blocks lie side by side; the hashes of node i under two keys are blocks 2 i
 * and 2 i + 1, which is the order of children, and that of a payload's four words.
 */

#include "aes.h"

#if MPC_X86

enum { NEAR_BITS = 3, RATIO_BITS = 2, PAYLOAD = 4, TASK_ROWS = 32 };
enum { NEAR = 1 << NEAR_BITS, RATIO = 1 << RATIO_BITS, NODES = NEAR * RATIO, CELLS = NODES - NEAR };
static const uint64_t SEED = ~(uint64_t)3; /* of a block's first word: what is no place of control bits */

struct schedule {
    __m128i key[4][MPC_AES_ROUNDS + 1];
};

/* The round keys of four keys: made once for all calls that hash under them. */
MPC_TARGET_AES static void expand_keys(const uint8_t *keys, struct schedule *s)
{
    for (int k = 0; k < 4; k++)
        mpc_aes_expand(keys + 16 * k, s->key[k]);
}

/* out [4][11][16] from keys [4][16]. */
MPC_EXPORT int mpc_fss_schedule(int level, int threads, const uint8_t *keys, uint8_t *out)
{
    (void)level, (void)threads;
    struct schedule schedule;
    expand_keys(keys, &schedule);
    memcpy(out, &schedule, sizeof schedule);
    return MPC_DONE;
}

/* out = AES_a(in) ^ in and AES_b(in) ^ in, interleaved, for `count` blocks, a multiple of 4; a is key `first`, b the
 * next. Eight independent blocks keep the AES unit busy. */
MPC_TARGET_AES static void hash(const struct schedule *s, int first, const uint64_t *in, int count, uint64_t *out)
{
    const __m128i *a = s->key[first], *b = s->key[first + 1];
    for (int i = 0; i < count; i += 4) {
        __m128i source[4], left[4], right[4];
        for (int k = 0; k < 4; k++) {
            source[k] = _mm_loadu_si128((const __m128i *)in + i + k);
            left[k] = _mm_xor_si128(source[k], a[0]);
            right[k] = _mm_xor_si128(source[k], b[0]);
        }
        for (int r = 1; r < MPC_AES_ROUNDS; r++)
            for (int k = 0; k < 4; k++) {
                left[k] = _mm_aesenc_si128(left[k], a[r]);
                right[k] = _mm_aesenc_si128(right[k], b[r]);
            }
        for (int k = 0; k < 4; k++) {
            __m128i *to = (__m128i *)out + 2 * (i + k);
            _mm_storeu_si128(to, _mm_xor_si128(_mm_aesenclast_si128(left[k], a[MPC_AES_ROUNDS]), source[k]));
            _mm_storeu_si128(to + 1, _mm_xor_si128(_mm_aesenclast_si128(right[k], b[MPC_AES_ROUNDS]), source[k]));
        }
    }
}

/* Children of `nodes` nodes from their raw hashes: seeds, and control bits, 0 or 1. */
MPC_INLINE void correct(const uint64_t *raw, int nodes, const uint64_t *block, uint64_t *seeds, uint64_t *controls)
{
    uint64_t fixed[2] = {block[0] & SEED, block[1]}, parents[NODES / 2];
    memcpy(parents, controls, (size_t)nodes * sizeof *parents);
    for (int i = 0; i < 2 * nodes; i++) {
        uint64_t control = parents[i >> 1];
        controls[i] = (raw[2 * i] & 1) ^ (control & block[0] >> (i & 1));
        seeds[2 * i] = (raw[2 * i] & SEED) ^ (fixed[0] & -control);
        seeds[2 * i + 1] = raw[2 * i + 1] ^ (fixed[1] & -control);
    }
}

/* The dealer. */

struct generate_job {
    const struct schedule *keys;
    int count;
    int64_t rows;
    const uint64_t *places, *payloads, *roots[2];
    uint64_t *out;
};

MPC_TARGET_AES static void generate_row(const struct generate_job *j, int64_t row)
{
    int depth = NEAR_BITS + RATIO_BITS * j->count, level = 0;
    uint64_t *blocks = j->out + row * (2 * depth + PAYLOAD * j->count), *leaves = blocks + 2 * depth;
    uint64_t seeds[2 * 4] = {0}, raw[4 * 4], children[2][4], controls[2] = {0, 1};
    for (int party = 0; party < 2; party++) {
        seeds[2 * party] = j->roots[party][2 * row] & SEED;
        seeds[2 * party + 1] = j->roots[party][2 * row + 1];
    }
    for (int d = 1; d <= depth; d++) {
        uint64_t right = j->places[row] >> (depth - d) & 1, *block = blocks + 2 * (d - 1);
        hash(j->keys, 0, seeds, 4, raw); /* server 0: left, right; server 1: left, right */
        const uint64_t *lost = raw + 2 * (1 - right);
        block[0] = (lost[0] ^ lost[4]) & SEED;
        block[0] |= (raw[0] ^ raw[4] ^ right ^ 1) & 1;
        block[0] |= ((raw[2] ^ raw[6] ^ right) & 1) << 1;
        block[1] = lost[1] ^ lost[5];
        for (int party = 0; party < 2; party++) {
            uint64_t both[2] = {controls[party]};
            correct(raw + 4 * party, 1, block, children[party], both);
            controls[party] = both[right];
            memcpy(seeds + 2 * party, children[party] + 2 * right, 2 * sizeof *seeds);
        }
        if (d < NEAR_BITS + RATIO_BITS || (d - NEAR_BITS) % RATIO_BITS)
            continue;
        hash(j->keys, 2, seeds, 4, raw);
        const uint64_t *payload = j->payloads + (row * j->count + level) * PAYLOAD;
        for (int k = 0; k < PAYLOAD; k++)
            leaves[level * PAYLOAD + k] = (payload[k] - raw[k] + raw[PAYLOAD + k]) * (controls[0] - controls[1]);
        level++;
    }
}

static void generate_rows(void *context, int64_t index)
{
    const struct generate_job *j = context;
    for (int64_t row = index * TASK_ROWS; row < mpc_min((index + 1) * TASK_ROWS, j->rows); row++)
        generate_row(j, row);
}

/* Corrections [row][2 depth + 4 count] for places of `depth` bits, payloads [row][count][4] and both servers' seeds. */
MPC_EXPORT int mpc_fss_generate(int level, int threads, const uint8_t *round_keys, const uint64_t *places,
                                const uint64_t *payloads, const uint64_t *first, const uint64_t *second, int64_t rows,
                                int count, uint64_t *out)
{
    (void)level;
    struct schedule schedule;
    memcpy(&schedule, round_keys, sizeof schedule); /* aligned */
    struct generate_job job = {&schedule, count, rows, places, payloads, {first, second}, out};
    mpc_parallel(threads, (rows + TASK_ROWS - 1) / TASK_ROWS, generate_rows, &job);
    return MPC_DONE;
}

/* A server. */

struct sum_job {
    const struct schedule *keys;
    int party, low, count, tau_frac;
    int64_t rows;
    const uint64_t *roots, *corrections, *opened;
    const int64_t *table;
    int64_t *out;
};

MPC_INLINE int64_t scaled(int64_t x, int count) { return (x + ((int64_t)1 << (count - 1))) >> count; }

/* (word mod 2^size) / 2^size - 1/2 at `frac` bits. */
MPC_INLINE int64_t centred(uint64_t word, int size, int frac)
{
    int64_t odd = 2 * (int64_t)(word & mpc_mask(size)) - ((int64_t)1 << size);
    int drop = size + 1 - frac;
    return drop > 0 ? scaled(odd, drop) : odd << -drop;
}

/* The sum over cells of the payload's share times the cubic's coefficients at tau, and that of its first word. Cell i has
 * z - 8 = 23 - skip - i. */
MPC_INLINE uint64_t weighted(const int64_t *table, int skip, int cells, int64_t tau, int frac, const uint64_t *raw,
                             const uint64_t *controls, const uint64_t *leaf, uint64_t *first)
{
    uint64_t total = 0;
    for (int i = 0; i < cells; i++) {
        const int64_t *a = table + PAYLOAD * (CELLS - 1 - skip - i);
        const uint64_t *w = raw + PAYLOAD * i;
        uint64_t control = -controls[i];
        int64_t third = scaled(a[3] * tau, frac);
        int64_t slope = a[1] + scaled((2 * a[2] + 3 * third) * tau, frac);
        int64_t value = a[0] + scaled((a[1] + scaled((a[2] + third) * tau, frac)) * tau, frac);
        *first += w[0] + (leaf[0] & control);
        total += (uint64_t)value * (w[0] + (leaf[0] & control));
        total -= (uint64_t)slope * (w[1] + (leaf[1] & control));
        total += (uint64_t)(a[2] + 3 * third) * (w[2] + (leaf[2] & control));
        total -= (uint64_t)a[3] * (w[3] + (leaf[3] & control));
    }
    return total;
}

MPC_TARGET_AES static void sum_row(const struct sum_job *j, int64_t row)
{
    int depth = NEAR_BITS + RATIO_BITS * j->count, nodes = 1;
    const uint64_t *block = j->corrections + row * (2 * depth + PAYLOAD * j->count), *leaf = block + 2 * depth;
    uint64_t seeds[2 * NODES] = {0}, raw[4 * NODES], controls[NODES] = {0}, total = 0, first = 0;
    seeds[0] = j->roots[2 * row] & SEED;
    seeds[1] = j->roots[2 * row + 1];
    controls[0] = (uint64_t)j->party;
    for (int level = 0; level < j->count; level++) {
        int size = j->low + RATIO_BITS * (j->count - 1 - level), skip = 0;
        uint64_t cell = j->opened[row] >> size;
        for (; nodes < NODES; nodes *= 2, block += 2) {
            hash(j->keys, 0, seeds, (nodes + 3) & ~3, raw);
            correct(raw, nodes, block, seeds, controls);
        }
        if (level == 0) { /* all nodes of the tree: turn them, so that the last is the opened word's own cell, z = 0 */
            uint64_t turned[3 * NODES];
            for (int i = 0; i < NODES; i++) {
                int from = (int)(cell + 1 + (uint64_t)i) & (NODES - 1);
                memcpy(turned + 2 * i, seeds + 2 * from, 2 * sizeof *seeds);
                turned[2 * NODES + i] = controls[from];
            }
            memcpy(seeds, turned, sizeof seeds);
            memcpy(controls, turned + 2 * NODES, sizeof controls);
        } else { /* z = 0 comes `skip` before the last; what lies behind it is beyond x^ */
            skip = RATIO - 1 - (int)(cell & (RATIO - 1));
        }
        int far = CELLS - skip;
        hash(j->keys, 2, seeds, (far + 3) & ~3, raw);
        total += weighted(j->table + level * CELLS * PAYLOAD, skip, far, centred(j->opened[row], size, j->tau_frac),
                          j->tau_frac, raw, controls, leaf, &first);
        leaf += PAYLOAD;
        nodes = NEAR;
        memmove(seeds, seeds + 2 * far, 2 * NEAR * sizeof *seeds);
        memmove(controls, controls + far, NEAR * sizeof *controls);
    }
    j->out[row] = (int64_t)(j->party ? -total : total);
    j->out[j->rows + row] = (int64_t)(j->party ? -first : first);
}

static void sum_rows(void *context, int64_t index)
{
    const struct sum_job *j = context;
    for (int64_t row = index * TASK_ROWS; row < mpc_min((index + 1) * TASK_ROWS, j->rows); row++)
        sum_row(j, row);
}

/* out[row]: the sum over all cells, with `table` [count][24][4] and fractions of a cell at `tau_frac` bits; behind those
 * of all rows, the sums of the payloads' first words. */
MPC_EXPORT int mpc_fss_sum(int level, int threads, const uint8_t *round_keys, int party, const uint64_t *roots,
                           const uint64_t *corrections, const uint64_t *opened, int64_t rows, int low, int count,
                           const int64_t *table, int tau_frac, int64_t *out)
{
    (void)level;
    struct schedule schedule;
    memcpy(&schedule, round_keys, sizeof schedule); /* aligned */
    struct sum_job job = {&schedule, party, low, count, tau_frac, rows, roots, corrections, opened, table, out};
    mpc_parallel(threads, (rows + TASK_ROWS - 1) / TASK_ROWS, sum_rows, &job);
    return MPC_DONE;
}

#endif

/* Whether the functions above are there and can be called. */
MPC_EXPORT int mpc_fss_usable(void)
{
#if MPC_X86
    __builtin_cpu_init();
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("avx2");
#else
    return 0;
#endif
}
