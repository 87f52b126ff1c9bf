/* A parallel loop. Threads live for one call: a start costs some 20 us, and parties run one thread unless told otherwise.
 * Plain POSIX threads, because a second OpenMP runtime beside torch's own is trouble, and not every compiler has one. */

#include "kernels.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MOST_THREADS = 64 };

struct loop {
    mpc_task task;
    void *context;
    int64_t count;
    atomic_llong next;
};

static void *run(void *argument)
{
    struct loop *loop = argument;
    for (;;) {
        int64_t index = atomic_fetch_add(&loop->next, 1);
        if (index >= loop->count)
            return NULL;
        loop->task(loop->context, index);
    }
}

void mpc_parallel(int threads, int64_t count, mpc_task task, void *context)
{
    struct loop loop = {task, context, count, 0};
    pthread_t others[MOST_THREADS];
    int64_t wanted = mpc_min(mpc_min(threads, count), MOST_THREADS) - 1;
    int started = 0;
    while (started < wanted && pthread_create(&others[started], NULL, run, &loop) == 0)
        started++; /* if there is no thread to be had, those that run do all the work */
    run(&loop);
    while (started > 0)
        pthread_join(others[--started], NULL);
}

struct blocks {
    mpc_loop loop;
    const void *job;
    int64_t count, block;
};

static void run_block(void *context, int64_t index)
{
    const struct blocks *b = context;
    b->loop(b->job, index * b->block, mpc_min(b->block, b->count - index * b->block));
}

void mpc_blocks(int threads, int64_t count, int64_t block, mpc_loop loop, const void *job)
{
    struct blocks blocks = {loop, job, count, block};
    mpc_parallel(threads, (count + block - 1) / block, run_block, &blocks);
}
