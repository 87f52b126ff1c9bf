/* The tile registers of AMX: their sizes, and what needs their numbers as such. */

#ifndef MPCNET_AMX_H
#define MPCNET_AMX_H

#include "kernels.h"

#if MPC_HAS_AMX

/* What tells the processor the sizes of its tiles: all have 16 rows of 64 bytes. */
struct mpc_tile_sizes {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

MPC_INLINE struct mpc_tile_sizes mpc_whole_tiles(void)
{
    struct mpc_tile_sizes sizes = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        sizes.bytes[t] = 64;
        sizes.rows[t] = 16;
    }
    return sizes;
}

/* Six tiles hold sums, the other two an operand each. */
#define MPC_EACH_SUM(do) do(0) do(1) do(2) do(3) do(4) do(5)
#define MPC_CLEAR_TILE(sum) _tile_zero(sum);
#define MPC_LOAD_LEFT(from) _tile_loadd(6, from, 64)
#define MPC_LOAD_RIGHT(from) _tile_loadd(7, from, 64)
#define MPC_MULTIPLY_TILES(sum) _tile_dpbuud(sum, 6, 7);

#endif
#endif
