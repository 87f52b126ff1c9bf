/* Opened values in wider rings, and their products (protocols/arith.py), in one pass over memory.
 *
 * A form is x = public + sum_i coefficient_i 2^(shift_i) secret_i; a server knows a share of each secret. The product of
 * two forms is
 *
 *     [x y] = X [y] + Y [x] - X Y + sum_ij coefficient_i coefficient_j 2^(shift) [secret_i secret_j]
 *
 * with the public product taken by party 0 only. All words have 64 bits here; sums wrap.
 */

#include "kernels.h"

enum { BLOCK = 1024, TERMS = 2, PAIRS = 4 };

struct words { /* an array of count words of `stored` bytes, element i of the result reading number (i / each) % count */
    const void *at;
    int64_t stored, each, count;
};

struct term {
    struct words coefficient, share;
    int64_t constant, shift; /* the constant counts where there is no coefficient array */
};

struct form {
    struct words public;
    int64_t terms;
    struct term term[TERMS];
};

struct pair {
    int64_t left, right, shift;
    struct words share;
};

struct product {
    int64_t party, pairs;
    struct form x, y;
    struct pair pair[PAIRS];
};

#define READ(type)                                                                                                     \
    do {                                                                                                               \
        const type *from = w->at;                                                                                      \
        if (w->each == 1 && w->count >= first + n) {                                                                   \
            for (int64_t i = 0; i < n; i++)                                                                            \
                to[i] = (uint64_t)(int64_t)from[first + i];                                                            \
        } else {                                                                                                       \
            int64_t at = (first / w->each) % w->count, left = w->each - first % w->each;                               \
            for (int64_t i = 0; i < n;) {                                                                              \
                uint64_t value = (uint64_t)(int64_t)from[at];                                                          \
                for (int64_t end = mpc_min(n, i + left); i < end; i++)                                                 \
                    to[i] = value;                                                                                     \
                left = w->each;                                                                                        \
                at = at + 1 == w->count ? 0 : at + 1;                                                                  \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

MPC_INLINE void read_words(const struct words *w, int64_t first, int64_t n, uint64_t *to)
{
    switch (w->stored) {
    case 1: READ(uint8_t); break;
    case 2: READ(int16_t); break;
    case 4: READ(int32_t); break;
    default: READ(int64_t);
    }
}

/* total += coefficients of a term times value, for the term's own coefficient array or its constant. */
MPC_INLINE void times_coefficient(const struct term *t, int64_t first, int64_t n, uint64_t *value, uint64_t *scratch)
{
    if (t->coefficient.at) {
        read_words(&t->coefficient, first, n, scratch);
        for (int64_t i = 0; i < n; i++)
            value[i] *= scratch[i];
    } else if (t->constant != 1) {
        for (int64_t i = 0; i < n; i++)
            value[i] *= (uint64_t)t->constant;
    }
}

/* The party's share of a form. */
MPC_INLINE void share_of(const struct form *f, int64_t party, const uint64_t *public, int64_t first, int64_t n,
                         uint64_t *out, uint64_t *value, uint64_t *scratch)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = party == 0 ? public[i] : 0;
    for (int64_t t = 0; t < f->terms; t++) {
        read_words(&f->term[t].share, first, n, value);
        times_coefficient(&f->term[t], first, n, value, scratch);
        for (int64_t i = 0; i < n; i++)
            out[i] += value[i] << f->term[t].shift;
    }
}

MPC_INLINE void product_body(const struct product *p, int64_t first, int64_t n, uint64_t *out)
{
    uint64_t x[BLOCK], y[BLOCK], share[BLOCK], value[BLOCK], scratch[BLOCK];
    read_words(&p->x.public, first, n, x);
    read_words(&p->y.public, first, n, y);
    share_of(&p->y, p->party, y, first, n, share, value, scratch);
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] * share[i] - (p->party == 0 ? x[i] * y[i] : 0);
    share_of(&p->x, p->party, x, first, n, share, value, scratch);
    for (int64_t i = 0; i < n; i++)
        out[i] += y[i] * share[i];
    for (int64_t k = 0; k < p->pairs; k++) {
        const struct pair *pair = &p->pair[k];
        read_words(&pair->share, first, n, value);
        times_coefficient(&p->x.term[pair->left], first, n, value, scratch);
        times_coefficient(&p->y.term[pair->right], first, n, value, scratch);
        for (int64_t i = 0; i < n; i++)
            out[i] += value[i] << pair->shift;
    }
}

MPC_CLONES(product, (const struct product *p, int64_t first, int64_t n, uint64_t *out), (p, first, n, out))

struct product_job {
    int level;
    int64_t count;
    const struct product *product;
    uint64_t *out;
};

static void product_block(void *context, int64_t index)
{
    const struct product_job *j = context;
    int64_t first = index * BLOCK;
    MPC_PICK(product, j->level)(j->product, first, mpc_min(BLOCK, j->count - first), j->out + first);
}

/* `product` is a struct product, as an array of 64-bit words. */
MPC_EXPORT int mpc_lifted_product(int level, int threads, const void *product, int64_t count, uint64_t *out)
{
    struct product_job job = {level, count, product, out};
    mpc_parallel(threads, (count + BLOCK - 1) / BLOCK, product_block, &job);
    return MPC_DONE;
}

/* A form's share; the form is the x of `product`. */
MPC_INLINE void share_body(const struct product *p, int64_t first, int64_t n, uint64_t *out)
{
    uint64_t x[BLOCK], value[BLOCK], scratch[BLOCK];
    read_words(&p->x.public, first, n, x);
    share_of(&p->x, p->party, x, first, n, out, value, scratch);
}

MPC_CLONES(share, (const struct product *p, int64_t first, int64_t n, uint64_t *out), (p, first, n, out))

static void share_block(void *context, int64_t index)
{
    const struct product_job *j = context;
    int64_t first = index * BLOCK;
    MPC_PICK(share, j->level)(j->product, first, mpc_min(BLOCK, j->count - first), j->out + first);
}

MPC_EXPORT int mpc_lifted_share(int level, int threads, const void *product, int64_t count, uint64_t *out)
{
    struct product_job job = {level, count, product, out};
    mpc_parallel(threads, (count + BLOCK - 1) / BLOCK, share_block, &job);
    return MPC_DONE;
}

/* Growth of an opened value from k bits: its public part, 1 - msb of the moved value, and the share of its mask. */
MPC_INLINE void grow_body(const struct words *opened, const struct words *mask, const struct words *carry, int k,
                          int64_t first, int64_t n, int64_t *public, int64_t *positive, int64_t *share)
{
    uint64_t a[BLOCK], offset = (uint64_t)1 << (k - 2), ring = mpc_mask(k);
    read_words(opened, first, n, a);
    for (int64_t i = 0; i < n; i++) {
        uint64_t moved = (a[i] + offset) & ring;
        public[first + i] = (int64_t)(moved - offset);
        positive[first + i] = (int64_t)(1 - (moved >> (k - 1)));
    }
    read_words(mask, first, n, a);
    for (int64_t i = 0; i < n; i++)
        share[first + i] = (int64_t)(a[i] & ring);
    read_words(carry, first, n, a);
    for (int64_t i = 0; i < n; i++)
        share[first + i] -= (int64_t)(a[i] << k);
}

MPC_CLONES(grow,
           (const struct words *opened, const struct words *mask, const struct words *carry, int k, int64_t first,
            int64_t n, int64_t *public, int64_t *positive, int64_t *share),
           (opened, mask, carry, k, first, n, public, positive, share))

struct grow_job {
    int level, k;
    int64_t count;
    const struct words *words;
    int64_t *public, *positive, *share;
};

static void grow_block(void *context, int64_t index)
{
    const struct grow_job *j = context;
    int64_t first = index * BLOCK;
    MPC_PICK(grow, j->level)(&j->words[0], &j->words[1], &j->words[2], j->k, first, mpc_min(BLOCK, j->count - first),
                             j->public, j->positive, j->share);
}

/* `words` are three struct words, as an array of 64-bit words: the opened value, shares of its mask, of its carry. */
MPC_EXPORT int mpc_lifted_grow(int level, int threads, const void *words, int64_t count, int k, int64_t *public,
                               int64_t *positive, int64_t *share)
{
    struct grow_job job = {level, k, count, words, public, positive, share};
    mpc_parallel(threads, (count + BLOCK - 1) / BLOCK, grow_block, &job);
    return MPC_DONE;
}
