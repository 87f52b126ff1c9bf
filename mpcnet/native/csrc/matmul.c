/* Matrix products mod 2^bits: out = c + sum over terms of +- a b, for a batch of matrices.
 *
 * The order of the loops is that of Goto and van de Geijn, Anatomy of high-performance matrix multiplication (2008): a
 * block of A stays in the second-level cache, a panel of B in the first, and the sums of a tile in registers.
 */

#include "matmul.h"

#include <stdlib.h>

enum {
    DEPTH = 192,          /* rows of a panel of B: 24 columns of 8 bytes take 36 KB */
    BLOCK = 256,          /* rows of a block of A: 400 KB at this depth */
    WIDE = 256,           /* from so many columns on, copying A into a compact block pays */
    STRIDE = DEPTH + 16,  /* words between rows of that copy: not a power of two, which would crowd few sets of a cache */
    KEPT = 384 << 10,     /* bytes of C that stay in the second-level cache while all of the depth is added to them */
    LINES = 4,            /* of a cache, at most, that a row of a panel touches */
    MOST_BATCH = 4,
    MOST_TERMS = 2,
    LEAST_WORK = 1 << 21, /* products that are worth a thread */
};

/* What Python passes is an array of 64-bit integers that reads as a struct product. */
_Static_assert(sizeof(void *) == 8, "pointers of 64 bits");

/* A batch of matrices; strides are in bytes, those of the batch zero where it is broadcast. */
struct operand {
    const char *data, *end; /* nothing at or behind `end` may be read */
    int64_t batch[MOST_BATCH];
    int64_t row, column;
    int64_t bytes; /* of a stored word */
};

struct term {
    struct operand a, b;
    int64_t depth, negative;
};

/* `c` (or NULL) and `out` are contiguous: [batch..., rows, columns] words. */
struct product {
    const char *c;
    char *out;
    int64_t batch[MOST_BATCH];
    int64_t rows, columns, bits, terms;
    struct term term[MOST_TERMS];
};

struct job {
    const struct product *product;
    const struct mpc_tiles *tiles;
    int level;
    int64_t splits, share; /* a matrix is split by columns into so many shares of so many columns */
    volatile int failed;
};

/* Buffers of one thread. */
struct room {
    char block[BLOCK * STRIDE * 8];
    char panel[DEPTH * MOST_VECTORS * MOST_LANES * 4] __attribute__((aligned(64)));
    char edge[MOST_ROWS * MOST_VECTORS * MOST_LANES * 4] __attribute__((aligned(64)));
};

/* One matrix of the batch, or a share of its columns. */
struct part {
    const struct job *job;
    struct room *room;
    const char *a[MOST_TERMS], *b[MOST_TERMS], *c;
    char *out;
    int64_t first, last; /* columns */
};

static void copy_block(const char *from, int64_t stride, int64_t rows, int64_t depth, int word, char *to)
{
    for (int64_t i = 0; i < rows; i++, from += stride, to += STRIDE * word) {
        memcpy(to, from, (size_t)(depth * word));
        memset(to + depth * word, 0, (size_t)word); /* the other half of an odd last pair */
    }
}

#define EDGE(type)                                                                                                     \
    do {                                                                                                               \
        const type *x = (const type *)from, *y = (const type *)sum;                                                    \
        type *z = (type *)to;                                                                                          \
        for (int64_t i = 0; i < rows; i++)                                                                             \
            for (int64_t j = 0; j < columns; j++) {                                                                    \
                type add = y[i * width + j], start = x ? x[i * stride + j] : 0;                                        \
                z[i * stride + j] = (type)(negative ? start - add : start + add);                                      \
            }                                                                                                          \
    } while (0)

/* Add the part of a tile that lies inside of C. */
static void add_edge(int word, const void *sum, int64_t width, const void *from, void *to, int64_t stride, int64_t rows,
                     int64_t columns, int negative)
{
    if (word == 8)
        EDGE(uint64_t);
    else if (word == 4)
        EDGE(uint32_t);
    else
        EDGE(uint16_t);
}

/* C[rows, j..j + columns) = from +- a panel, tile by tile. */
static void multiply(const struct part *part, const char *a, int64_t a_stride, int64_t rows, int64_t depth,
                     int64_t columns, int64_t width, const char *from, char *to, int negative, const char *ahead,
                     int64_t ahead_row)
{
    const struct mpc_tiles *tiles = part->job->tiles;
    mpc_tile tile = tiles->tile[width / tiles->lanes - 1];
    int64_t stride = part->job->product->columns, word = tiles->word;
    int64_t steps = tiles->pairs ? (depth + 1) / 2 : depth;
    for (int64_t i = 0; i < rows; i += tiles->rows) {
        int64_t height = mpc_min(tiles->rows, rows - i), at = i * stride * word;
        int64_t number = i / tiles->rows, row = number / LINES; /* of the panel ahead: each tile fetches a line of all rows */
        const char *line = row < 1 + tiles->pairs ? ahead + row * ahead_row + 64 * (number % LINES) : a;
        int64_t step = row < 1 + tiles->pairs ? ahead_row << tiles->pairs : 0;
        const char *start = from ? from + at : NULL;
        if (height == tiles->rows && columns == width) {
            tile(steps, a + i * a_stride * word, a_stride, (int)height, part->room->panel, start, to + at, stride,
                 negative, line, step);
            continue;
        }
        tile(steps, a + i * a_stride * word, a_stride, (int)height, part->room->panel, NULL, part->room->edge, width, 0,
             line, step);
        add_edge((int)word, part->room->edge, width, start, to + at, stride, height, columns, negative);
    }
}

/* Rows i.. of columns first..last, for one term and one stretch of its depth. */
static void stretch(const struct part *part, int64_t i, int64_t rows, int64_t first, int64_t last, int64_t index,
                    int64_t k)
{
    const struct job *job = part->job;
    const struct product *product = job->product;
    const struct term *term = &product->term[index];
    const struct mpc_tiles *tiles = job->tiles;
    int64_t depth = mpc_min(DEPTH, term->depth - k), word = tiles->word;
    const char *a = part->a[index] + i * term->a.row + k * word;
    int64_t a_stride = term->a.row / word;
    if (tiles->pairs || last - first >= WIDE) {
        copy_block(a, term->a.row, rows, depth, (int)word, part->room->block);
        a = part->room->block;
        a_stride = STRIDE;
    }
    for (int64_t j = first; j < last;) {
        int64_t columns = mpc_min(last - j, tiles->vectors * tiles->lanes);
        int64_t width = (columns + tiles->lanes - 1) / tiles->lanes * tiles->lanes;
        const struct mpc_block block = {
            part->b[index] + k * term->b.row + j * term->b.column, term->b.end, term->b.row, term->b.column,
            (int)term->b.bytes, depth, columns,
        };
        int64_t at = (i * product->columns + j) * word;
        const char *from = index || k ? part->out + at : part->c ? part->c + at : NULL;
        mpc_matmul_pack(job->level, tiles, &block, width, part->room->panel);
        j += columns;
        const char *ahead = part->b[index] + k * term->b.row + j * term->b.column;
        multiply(part, a, a_stride, rows, depth, columns, width, from, part->out + at, (int)term->negative, ahead,
                 term->b.row);
    }
}

/* Rows i.. of the share: some panels at a time, so that their part of C stays close. */
static void strip(const struct part *part, int64_t i, int64_t rows)
{
    const struct product *product = part->job->product;
    int64_t panel = part->job->tiles->vectors * part->job->tiles->lanes;
    int64_t panels = KEPT / (rows * panel * part->job->tiles->word), wide = (panels > 4 ? panels : 4) * panel;
    for (int64_t j = part->first; j < part->last; j += wide)
        for (int64_t t = 0; t < product->terms; t++)
            for (int64_t k = 0; k < product->term[t].depth; k += DEPTH)
                stretch(part, i, rows, j, mpc_min(j + wide, part->last), t, k);
}

static int64_t offset(const int64_t *sizes, const int64_t *strides, int64_t index)
{
    int64_t result = 0;
    for (int d = MOST_BATCH - 1; d >= 0; d--) {
        result += index % sizes[d] * strides[d];
        index /= sizes[d];
    }
    return result;
}

static void run(void *context, int64_t index)
{
    struct job *job = context;
    const struct product *product = job->product;
    int64_t matrix = index / job->splits, first = index % job->splits * job->share;
    int64_t at = matrix * product->rows * product->columns * job->tiles->word;
    struct part part = {
        .job = job, .room = aligned_alloc(64, sizeof(struct room)), .c = product->c ? product->c + at : NULL,
        .out = product->out + at, .first = first, .last = mpc_min(first + job->share, product->columns),
    };
    if (!part.room) {
        job->failed = 1;
        return;
    }
    for (int64_t t = 0; t < product->terms; t++) {
        part.a[t] = product->term[t].a.data + offset(product->batch, product->term[t].a.batch, matrix);
        part.b[t] = product->term[t].b.data + offset(product->batch, product->term[t].b.batch, matrix);
    }
    for (int64_t i = 0; i < product->rows; i += BLOCK)
        strip(&part, i, mpc_min(BLOCK, product->rows - i));
    free(part.room);
}

MPC_EXPORT int mpc_matmul(int level, int threads, const struct product *product)
{
    struct job job = {product, mpc_matmul_tiles(level, (int)product->bits), level, 1, product->columns, 0};
    int64_t matrices = 1, work = 0, panel = job.tiles->vectors * job.tiles->lanes;
    for (int d = 0; d < MOST_BATCH; d++)
        matrices *= product->batch[d];
    for (int64_t t = 0; t < product->terms; t++)
        work += matrices * product->rows * product->columns * product->term[t].depth;
    threads = (int)mpc_min(threads, work / LEAST_WORK + 1);
    if (matrices < threads) {
        int64_t panels = (product->columns + panel - 1) / panel;
        int64_t each = (panels * matrices + threads - 1) / threads;
        job.share = each * panel;
        job.splits = (product->columns + job.share - 1) / job.share;
    }
    mpc_parallel(threads, matrices * job.splits, run, &job);
    return job.failed ? MPC_NO_MEMORY : MPC_DONE;
}
