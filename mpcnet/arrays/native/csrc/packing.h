/* What the files of packing share. A run of words goes to or comes from the wire: `width` bytes a word. */

#ifndef MPCNET_PACKING_H
#define MPCNET_PACKING_H

#include "kernels.h"

/* Words of `stored` bytes, of which `bits` count. */
struct mpc_run {
    int64_t count;
    int stored, width, bits;
};

/* For widths below what is stored: as many words as whole vectors take. They return how many words they did. No byte
 * beside those of these words is written, and none behind the last word is read. */
int64_t mpc_pack_vectors(int level, const struct mpc_run *run, const char *a, const char *b, int negative, char *out);
int64_t mpc_unpack_vectors(int level, const struct mpc_run *run, const char *raw, const char *mine, char *out);

#endif
