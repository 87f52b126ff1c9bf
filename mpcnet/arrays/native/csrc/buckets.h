/* Numbers of buckets that kernels are compiled for (protocols/rowmax.py). */

#ifndef MPCNET_BUCKETS_H
#define MPCNET_BUCKETS_H

#include "kernels.h"

/* f(..., buckets), with a number of buckets that the compiler knows. */
#define MPC_BUCKETS(buckets, f, ...)                                                                                   \
    switch (buckets) {                                                                                                 \
    case 512: f(__VA_ARGS__, 512); break;                                                                              \
    case 256: f(__VA_ARGS__, 256); break;                                                                              \
    case 128: f(__VA_ARGS__, 128); break;                                                                              \
    case 64: f(__VA_ARGS__, 64); break;                                                                                \
    default: f(__VA_ARGS__, 32);                                                                                       \
    }

#endif
