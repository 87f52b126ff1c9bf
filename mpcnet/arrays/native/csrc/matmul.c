/* Matrix products mod 2^bits: out = c + sum over terms of +- a b, for a batch of matrices. Here the work is shared out
 * among threads; what computes a part is in matmul_vectors.c, or matmul_amx.c.
 */

#include "product.h"

#include <stdatomic.h>

enum { LEAST_WORK = 1 << 21 }; /* products that are worth a thread */

struct job {
    const struct mpc_product *product;
    int level;
    int64_t splits, share; /* a matrix is split by columns into so many shares of so many columns */
    atomic_int failed;
};

static int64_t offset(const int64_t *sizes, const int64_t *strides, int64_t index)
{
    int64_t result = 0;
    for (int d = MPC_MOST_BATCH - 1; d >= 0; d--) {
        result += index % sizes[d] * strides[d];
        index /= sizes[d];
    }
    return result;
}

static void run(void *context, int64_t index)
{
    struct job *job = context;
    const struct mpc_product *product = job->product;
    int64_t matrix = index / job->splits, first = index % job->splits * job->share;
    int64_t at = matrix * product->rows * product->columns * mpc_word(product->bits);
    struct mpc_part part = {
        .product = product, .c = product->c ? product->c + at : NULL, .out = product->out + at, .first = first,
        .last = mpc_min(first + job->share, product->columns),
    };
    for (int64_t t = 0; t < product->terms; t++) {
        part.a[t] = product->term[t].a.data + offset(product->batch, product->term[t].a.batch, matrix);
        part.b[t] = product->term[t].b.data + offset(product->batch, product->term[t].b.batch, matrix);
    }
    int amx = job->level >= MPC_AMX && mpc_matmul_amx_fits(product);
    if (amx ? mpc_matmul_amx(&part) : mpc_matmul_vectors(job->level, &part))
        job->failed = 1;
}

MPC_EXPORT int mpc_matmul(int level, int threads, const struct mpc_product *product)
{
    struct job job = {product, level, 1, product->columns, 0};
    int64_t matrices = 1, work = 0;
    for (int d = 0; d < MPC_MOST_BATCH; d++)
        matrices *= product->batch[d];
    for (int64_t t = 0; t < product->terms; t++)
        work += matrices * product->rows * product->columns * product->term[t].depth;
    threads = (int)mpc_min(threads, work / LEAST_WORK + 1);
    if (matrices < threads) {
        int64_t strips = (product->columns + MPC_STRIP - 1) / MPC_STRIP;
        int64_t each = (strips * matrices + threads - 1) / threads;
        job.share = each * MPC_STRIP;
        job.splits = (product->columns + job.share - 1) / job.share;
    }
    mpc_parallel(threads, matrices * job.splits, run, &job);
    return job.failed ? MPC_NO_MEMORY : MPC_DONE;
}
