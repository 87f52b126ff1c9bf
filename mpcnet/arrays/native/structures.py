"""The C structures that kernels take by address, as csrc/product.h and csrc/lifted.h declare them.

:func:`mpcnet.arrays.native.library.load` compares every size with the C side's, and refuses a shared object that
differs. Whoever fills one in keeps the memory behind its addresses alive until the call returns. None stands for NULL.
"""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

MOST_BATCH, MOST_TERMS = 4, 2  # MPC_MOST_BATCH and MPC_MOST_TERMS
FORM_TERMS, FORM_PAIRS = 2, 4  # MPC_FORM_TERMS and MPC_FORM_PAIRS


class Operand(Structure):
    """struct mpc_operand: where the words of a batch of matrices lie. Strides are in bytes, sizes of words too."""

    _fields_ = (
        ("data", c_void_p),
        ("end", c_void_p),
        ("batch", c_int64 * MOST_BATCH),
        ("row", c_int64),
        ("column", c_int64),
        ("bytes", c_int64),
        ("layout", c_int64),
    )


class Term(Structure):
    """struct mpc_term: + a b, or - a b if `negative`, of matrices with an inner dimension of `depth`."""

    _fields_ = (("a", Operand), ("b", Operand), ("depth", c_int64), ("negative", c_int64))


class Product(Structure):
    """struct mpc_product: out = c + the sum of its terms, of [batch..., rows, columns] words."""

    _fields_ = (
        ("c", c_void_p),
        ("out", c_void_p),
        ("batch", c_int64 * MOST_BATCH),
        ("rows", c_int64),
        ("columns", c_int64),
        ("bits", c_int64),
        ("terms", c_int64),
        ("term", Term * MOST_TERMS),
    )


class Words(Structure):
    """struct mpc_words: element i of the result reads word (i / each) % count, of `stored` bytes."""

    _fields_ = (("at", c_void_p), ("stored", c_int64), ("each", c_int64), ("count", c_int64))


class FormTerm(Structure):
    """struct mpc_form_term: coefficient 2^shift secret; a constant coefficient where there is no array of them."""

    _fields_ = (("coefficient", Words), ("share", Words), ("constant", c_int64), ("shift", c_int64))


class Form(Structure):
    """struct mpc_form: a public part and up to `FORM_TERMS` terms."""

    _fields_ = (("public", Words), ("terms", c_int64), ("term", FormTerm * FORM_TERMS))


class FormPair(Structure):
    """struct mpc_form_pair: the share of 2^shift times a product of two secrets."""

    _fields_ = (("left", c_int64), ("right", c_int64), ("shift", c_int64), ("share", Words))


class FormProduct(Structure):
    """struct mpc_form_product: two forms and up to `FORM_PAIRS` products of their secrets."""

    _fields_ = (("party", c_int64), ("pairs", c_int64), ("x", Form), ("y", Form), ("pair", FormPair * FORM_PAIRS))


ALL: dict[str, type[Structure]] = {
    "mpc_operand": Operand,
    "mpc_term": Term,
    "mpc_product": Product,
    "mpc_words": Words,
    "mpc_form": Form,
    "mpc_form_term": FormTerm,
    "mpc_form_pair": FormPair,
    "mpc_form_product": FormProduct,
}
