"""Kernels in C: matrix products, packing, sums mod 2^k. Without a compiler at install time, torch does the same work.

One C file and one module here for each idea:

| module | kernels |
|---|---|
| :mod:`mpcnet.arrays.native.library` | finds and loads the shared object; levels of the processor |
| :mod:`mpcnet.arrays.native.bitmatrix` | products of bit matrices mod 2 |
| :mod:`mpcnet.arrays.native.bound` | the rate of the instructions that products use |
| :mod:`mpcnet.arrays.native.exponential` | e^x of opened values |
| :mod:`mpcnet.arrays.native.fss` | keys of point functions, and what a server reads by one |
| :mod:`mpcnet.arrays.native.histogram` | counts of buckets from rotated one-hot rows |
| :mod:`mpcnet.arrays.native.keystream` | AES-128 in counter mode |
| :mod:`mpcnet.arrays.native.lifted` | growth of opened values, and their products |
| :mod:`mpcnet.arrays.native.matmul` | matrix products |
| :mod:`mpcnet.arrays.native.onehot` | tables of digits: made, and read at public digits |
| :mod:`mpcnet.arrays.native.packing` | the wire form of words, with sums and differences |
| :mod:`mpcnet.arrays.native.parity` | parities of buckets from rotated one-hot rows of bits |
| :mod:`mpcnet.arrays.native.series` | trigonometric series |
| :mod:`mpcnet.arrays.native.structures` | C structures that kernels take by address |

To add a kernel: write ``csrc/NAME.c`` around an `MPC_INLINE` function that `MPC_LOOP` compiles for every level and
`mpc_blocks` runs, and list it in pyproject.toml. Raise `MPC_ABI` and `library.ABI` if an exported function changed.
Pass a description with many parts as a structure: declare it in a header, in :mod:`~mpcnet.arrays.native.structures`,
and in csrc/abi.c. Call it from a module NAME.py that checks types, devices and sizes of every tensor before it passes a
pointer on. Its caller asks whether the kernels fit (:func:`~mpcnet.arrays.native.library.usable`, or the module's own
`fits`), and has the same formula in torch beside it: where there are no kernels that is what runs, and what tests
compare with. Call the kernel from tests/mpcnet/arrays/test_native_borders.py, and run ``.ci/sanitize``.
"""
