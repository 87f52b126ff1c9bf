/* Opened values in wider rings, as Python describes them (protocols/arith.py).
 *
 * A form is x = public + sum_i coefficient_i 2^(shift_i) secret_i. A server knows a share of each secret. Results have
 * 64 bits, and sums wrap.
 *
 * mpcnet/arrays/native/structures.py declares the same structures, and library.py compares their sizes (abi.c).
 */

#ifndef MPCNET_LIFTED_H
#define MPCNET_LIFTED_H

#include "kernels.h"

enum { MPC_FORM_TERMS = 2, MPC_FORM_PAIRS = 4 };

/* A broadcast array of `count` words of `stored` bytes: element i of the result reads word (i / each) % count. */
struct mpc_words {
    const void *at;
    int64_t stored, each, count;
};

struct mpc_form_term {
    struct mpc_words coefficient; /* `at` is NULL where all coefficients are `constant` */
    struct mpc_words share;
    int64_t constant, shift;
};

struct mpc_form {
    struct mpc_words public;
    int64_t terms;
    struct mpc_form_term term[MPC_FORM_TERMS];
};

/* A share of 2^shift times the product of secret `left` of x and secret `right` of y. */
struct mpc_form_pair {
    int64_t left, right, shift;
    struct mpc_words share;
};

struct mpc_form_product {
    int64_t party, pairs;
    struct mpc_form x, y;
    struct mpc_form_pair pair[MPC_FORM_PAIRS];
};

#endif
