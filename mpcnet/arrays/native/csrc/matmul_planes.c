/* Splits a matrix into planes of bytes once, for many products by AMX: MPC_PLANES of product.h. */

#include "amx.h"
#include "product.h"

#if MPC_HAS_AMX

#include "matmul_amx_planes.h"

/* A matrix in rows without gaps, and where it goes in planes. */
struct splitting {
    const char *from;
    uint8_t *to;
    int64_t rows, columns;
    int limbs;
};

/* One strip. */
MPC_TARGET_AMX static void split_strip(void *context, int64_t index)
{
    const struct splitting *s = context;
    int64_t columns = mpc_min(MPC_STRIP, s->columns - index * MPC_STRIP), row = s->columns * s->limbs;
    int64_t steps = columns < MPC_STRIP ? 0 : s->rows / STEP;
    const char *from = s->from + index * MPC_STRIP * s->limbs;
    uint8_t *to = s->to + strip_bytes(s->rows, s->limbs) * index;
    struct spread spread;
    spread_of(s->limbs, &spread);
    for (int64_t side = 0; side < MPC_STRIP; side += SIDE)
        for (int64_t k = 0; k < steps; k++, to += s->limbs * TILE) {
            const char *at = from + k * STEP * row + side * s->limbs;
            if (s->limbs > 4)
                right_tile(&spread, at, row, STEP, SIDE, s->limbs, to, 1);
            else
                right_tile(&spread, at, row, STEP, SIDE, s->limbs, to, 0);
        }
    for (int64_t k = steps * STEP; k < s->rows; k++, to += columns * s->limbs)
        memcpy(to, from + k * row, (size_t)(columns * s->limbs));
}

/* For processors with AMX only: the only ones that multiply planes. */
MPC_EXPORT int mpc_matmul_planes(int level, int threads, const char *from, uint8_t *to, int64_t rows, int64_t columns,
                                 int64_t bytes)
{
    (void)level;
    struct splitting splitting = {from, to, rows, columns, (int)bytes};
    mpc_parallel(threads, (columns + MPC_STRIP - 1) / MPC_STRIP, split_strip, &splitting);
    return MPC_DONE;
}

#endif
