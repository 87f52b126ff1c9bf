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
        if (w->each == 1) {                                                                                            \
            for (int64_t i = 0, at = first % w->count; i < n; at = 0)                                                  \
                for (int64_t ahead = at - i, end = mpc_min(n, w->count - ahead); i < end; i++)                         \
                    to[i] = (uint64_t)(int64_t)from[i + ahead];                                                        \
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

/* value *= the term's coefficients: an array, or a constant. */
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

/* The party's share of a form, of which `public` has been read already. */
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

struct job {
    const struct product *product;
    uint64_t *out;
};

MPC_INLINE void product_body(const void *job, int64_t first, int64_t n)
{
    const struct job *j = job;
    const struct product *p = j->product;
    uint64_t x[BLOCK], y[BLOCK], share[BLOCK], value[BLOCK], scratch[BLOCK], *out = j->out + first;
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

MPC_LOOP(product)

/* The share of x y. `product` is a struct product, as an array of 64-bit words. */
MPC_EXPORT int mpc_lifted_product(int level, int threads, const void *product, int64_t count, uint64_t *out)
{
    struct job job = {product, out};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(product, level), &job);
    return MPC_DONE;
}

MPC_INLINE void share_body(const void *job, int64_t first, int64_t n)
{
    const struct job *j = job;
    const struct product *p = j->product;
    uint64_t x[BLOCK], value[BLOCK], scratch[BLOCK];
    read_words(&p->x.public, first, n, x);
    share_of(&p->x, p->party, x, first, n, j->out + first, value, scratch);
}

MPC_LOOP(share)

/* The share of x; `product` need not have more than party and x. */
MPC_EXPORT int mpc_lifted_share(int level, int threads, const void *product, int64_t count, uint64_t *out)
{
    struct job job = {product, out};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(share, level), &job);
    return MPC_DONE;
}

struct grow {
    int k;
    const struct words *words; /* the opened value, shares of its mask, of the mask's carry */
    uint64_t *public, *positive, *share;
};

MPC_INLINE void grow_body(const void *job, int64_t first, int64_t n)
{
    const struct grow *j = job;
    uint64_t *public = j->public + first, *positive = j->positive + first, *share = j->share + first;
    uint64_t a[BLOCK], offset = (uint64_t)1 << (j->k - 2), ring = mpc_mask(j->k);
    int k = j->k;
    read_words(&j->words[0], first, n, a);
    for (int64_t i = 0; i < n; i++) {
        uint64_t moved = (a[i] + offset) & ring;
        public[i] = moved - offset;
        positive[i] = 1 - (moved >> (k - 1));
    }
    read_words(&j->words[1], first, n, a);
    for (int64_t i = 0; i < n; i++)
        share[i] = a[i] & ring;
    read_words(&j->words[2], first, n, a);
    for (int64_t i = 0; i < n; i++)
        share[i] -= a[i] << k;
}

MPC_LOOP(grow)

/* Growth of an opened value from k bits: its public part, 1 - msb of the moved value, and the share of its mask.
 * `words` are three struct words, as an array of 64-bit words. */
MPC_EXPORT int mpc_lifted_grow(int level, int threads, const void *words, int64_t count, int k, uint64_t *public,
                               uint64_t *positive, uint64_t *share)
{
    struct grow job = {k, words, public, positive, share};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(grow, level), &job);
    return MPC_DONE;
}
