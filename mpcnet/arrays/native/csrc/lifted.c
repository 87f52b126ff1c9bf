/* Growth of opened values into wider rings, their shares and their products, each in one pass over memory.
 *
 * The product of two forms (lifted.h) is
 *
 *     [x y] = X [y] + Y [x] - X Y + sum_ij coefficient_i coefficient_j 2^(shift) [secret_i secret_j]
 *
 * where X and Y are the public parts; party 0 alone takes their product.
 */

#include "lifted.h"

enum { BLOCK = 1024 };

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

MPC_INLINE void read_words(const struct mpc_words *w, int64_t first, int64_t n, uint64_t *to)
{
    switch (w->stored) {
    case 1: READ(uint8_t); break;
    case 2: READ(int16_t); break;
    case 4: READ(int32_t); break;
    default: READ(int64_t);
    }
}

/* value *= the term's coefficients: an array, or a constant. */
MPC_INLINE void times_coefficient(const struct mpc_form_term *t, int64_t first, int64_t n, uint64_t *value,
                                  uint64_t *scratch)
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
MPC_INLINE void share_of(const struct mpc_form *f, int64_t party, const uint64_t *public, int64_t first, int64_t n,
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

struct product {
    const struct mpc_form_product *product;
    uint64_t *out;
};

MPC_INLINE void product_body(const void *job, int64_t first, int64_t n)
{
    const struct product *j = job;
    const struct mpc_form_product *p = j->product;
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
        const struct mpc_form_pair *pair = &p->pair[k];
        read_words(&pair->share, first, n, value);
        times_coefficient(&p->x.term[pair->left], first, n, value, scratch);
        times_coefficient(&p->y.term[pair->right], first, n, value, scratch);
        for (int64_t i = 0; i < n; i++)
            out[i] += value[i] << pair->shift;
    }
}

MPC_LOOP(product)

/* The party's share of x y. */
MPC_EXPORT int mpc_lifted_product(int level, int threads, const struct mpc_form_product *product, int64_t count,
                                  uint64_t *out)
{
    struct product job = {product, out};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(product, level), &job);
    return MPC_DONE;
}

struct share {
    int64_t party;
    const struct mpc_form *form;
    uint64_t *out;
};

MPC_INLINE void share_body(const void *job, int64_t first, int64_t n)
{
    const struct share *j = job;
    uint64_t x[BLOCK], value[BLOCK], scratch[BLOCK];
    read_words(&j->form->public, first, n, x);
    share_of(j->form, j->party, x, first, n, j->out + first, value, scratch);
}

MPC_LOOP(share)

/* The party's share of a form. */
MPC_EXPORT int mpc_lifted_share(int level, int threads, const struct mpc_form *form, int64_t party, int64_t count,
                                uint64_t *out)
{
    struct share job = {party, form, out};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(share, level), &job);
    return MPC_DONE;
}

struct grow {
    int k;
    const struct mpc_words *opened, *mask, *carry;
    uint64_t *public, *positive, *share;
};

MPC_INLINE void grow_body(const void *job, int64_t first, int64_t n)
{
    const struct grow *j = job;
    uint64_t *public = j->public + first, *positive = j->positive + first, *share = j->share + first;
    uint64_t a[BLOCK], offset = (uint64_t)1 << (j->k - 2), ring = mpc_mask(j->k);
    int k = j->k;
    read_words(j->opened, first, n, a);
    for (int64_t i = 0; i < n; i++) {
        uint64_t moved = (a[i] + offset) & ring;
        public[i] = moved - offset;
        positive[i] = 1 - (moved >> (k - 1));
    }
    read_words(j->mask, first, n, a);
    for (int64_t i = 0; i < n; i++)
        share[i] = a[i] & ring;
    read_words(j->carry, first, n, a);
    for (int64_t i = 0; i < n; i++)
        share[i] -= a[i] << k;
}

MPC_LOOP(grow)

/* Growth of an opened value from k bits, given shares of its mask and of the mask's carry: the public part, 1 - msb of
 * the moved value, and the share of the mask. */
MPC_EXPORT int mpc_lifted_grow(int level, int threads, const struct mpc_words *opened, const struct mpc_words *mask,
                               const struct mpc_words *carry, int64_t count, int k, uint64_t *public,
                               uint64_t *positive, uint64_t *share)
{
    struct grow job = {k, opened, mask, carry, public, positive, share};
    mpc_blocks(threads, count, BLOCK, MPC_PICK(grow, level), &job);
    return MPC_DONE;
}
