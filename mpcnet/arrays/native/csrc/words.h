/* Words that may lie at any address and alias anything: those of a frame, or of a matrix at wire width. */

#ifndef MPCNET_WORDS_H
#define MPCNET_WORDS_H

#include <stdint.h>

typedef uint64_t __attribute__((may_alias, aligned(1))) word64;
typedef uint32_t __attribute__((may_alias, aligned(1))) word32;
typedef uint16_t __attribute__((may_alias, aligned(1))) word16;

#endif
