/* What Python compares before it calls anything else: the version of the exported functions, and the sizes of the
 * structures that it passes by address. */

#include "lifted.h"
#include "product.h"

_Static_assert(sizeof(void *) == 8, "pointers of 64 bits");

MPC_EXPORT int mpc_abi(void) { return MPC_ABI; }

/* Bytes of the structure of that name, or -1 if there is none. */
MPC_EXPORT int64_t mpc_sizeof(const char *name)
{
#define SIZE_OF(structure) {#structure, sizeof(struct structure)}
    static const struct {
        const char *name;
        int64_t bytes;
    } known[] = {
        SIZE_OF(mpc_operand), SIZE_OF(mpc_term),      SIZE_OF(mpc_product),   SIZE_OF(mpc_words),
        SIZE_OF(mpc_form),    SIZE_OF(mpc_form_term), SIZE_OF(mpc_form_pair), SIZE_OF(mpc_form_product),
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].bytes;
    return -1;
}
