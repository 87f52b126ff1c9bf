"""Arithmetic modulo 2^k on torch tensors, and the memory that arrays take.

`ring` is the front; `native` holds the C kernels, `accelerator` the GPU's products. `shapes` and `memory` stand in for
data where a program runs on shapes alone.
May import: rounds, errors.
"""
