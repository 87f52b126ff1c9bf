/* The inner loop of the matrix product, as a template: each inclusion defines mpc_tiles_TILE from these macros, and
 * undefines them.
 *
 * TILE       name of the tiles               TARGET     the level they need
 * WORD       type of a word of A and C       STEP_WORD  type that is broadcast: a word, a pair, or a pair's digits
 * VEC, ACC   types of a vector, of a sum     LANES, ROWS, VECTORS   size of the tile
 * ZERO()     an empty sum                    LOAD(p), SPREAD(p)     a vector of B; a word of A in all lanes
 * STEP(s, a, b)  s += a b                    ADD(from, to, s, negative)  to[0..LANES) = from +- s
 * DIGITS     mpc_tiles.digits; 0 unless defined
 */

#ifndef DIGITS
#define DIGITS 0
#endif
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

MPC_INLINE TARGET void JOIN(TILE, any)(int vectors, int64_t depth, const void *a, int64_t a_stride, int rows,
                                       const void *panel, const void *from, void *to, int64_t stride, int negative,
                                       const char *ahead, int64_t ahead_stride)
{
    const STEP_WORD *row[ROWS], *b = panel;
    ACC sum[ROWS][VECTORS];
    VEC beside[VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        row[r] = (const STEP_WORD *)((const WORD *)a + (r < rows ? r : rows - 1) * a_stride);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            __builtin_prefetch((const WORD *)(from ? from : to) + r * stride + v * LANES);
            __builtin_prefetch((const WORD *)to + r * stride + v * LANES, 1);
            sum[r][v] = ZERO();
        }
    }
    for (int64_t k = 0; k < depth; k++) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            beside[v] = LOAD(b + v * LANES);
        b += vectors * LANES;
        __builtin_prefetch(ahead, 0, 2);
        ahead += ahead_stride;
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            __auto_type spread = SPREAD(row[r] + k);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                sum[r][v] = STEP(sum[r][v], spread, beside[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            int64_t at = r * stride + v * LANES;
            ADD(from ? (const WORD *)from + at : NULL, (WORD *)to + at, sum[r][v], negative);
        }
    }
}

#define TILE_OF(vectors)                                                                                               \
    TARGET static void JOIN(TILE, vectors)(int64_t depth, const void *a, int64_t a_stride, int rows,                   \
                                           const void *panel, const void *from, void *to, int64_t stride,              \
                                           int negative, const char *ahead, int64_t ahead_stride)                      \
    {                                                                                                                  \
        JOIN(TILE, any)(vectors, depth, a, a_stride, rows, panel, from, to, stride, negative, ahead, ahead_stride);    \
    }

TILE_OF(1)
#if VECTORS > 1
TILE_OF(2)
#endif
#if VECTORS > 2
TILE_OF(3)
#endif

const struct mpc_tiles JOIN(mpc_tiles, TILE) = {
    {
        JOIN(TILE, 1),
#if VECTORS > 1
        JOIN(TILE, 2),
#endif
#if VECTORS > 2
        JOIN(TILE, 3),
#endif
    },
    VECTORS, ROWS, LANES, sizeof(WORD), sizeof(STEP_WORD) > sizeof(WORD), DIGITS,
};

#undef JOIN_
#undef JOIN
#undef TILE_OF
#undef TILE
#undef TARGET
#undef WORD
#undef STEP_WORD
#undef VEC
#undef ACC
#undef LANES
#undef ROWS
#undef VECTORS
#undef ZERO
#undef LOAD
#undef SPREAD
#undef STEP
#undef ADD
#undef DIGITS
