"""Kernels of grown values and their products against torch, bit by bit: levels, threads, broadcasts, storage types."""

from collections.abc import Sequence
from itertools import cycle

import pytest
import torch
from kernels import KINDS, SIZES, in_torch, refuse, strangers, words
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import lifted as native
from mpcnet.arrays.shapes import broadcast
from mpcnet.protocols import arith as A
from mpcnet.protocols.share import Lifted, Masked, Term
from mpcnet.randomness.source import Secret

Shape = tuple[int, ...]
BROADCASTS: list[tuple[Shape, Shape]] = [
    ((), ()), ((7, 9), ()), ((7, 9), (7, 1)), ((7, 9), (1, 9)), ((7, 9), (9,)), ((7, 1), (9,)), ((7, 9), (1, 1)),
    ((2, 3, 40, 9), (2, 1, 1, 9)), ((2, 3, 40, 9), (2, 3, 40, 1)), ((2, 3, 40, 9), (1, 3, 40, 1)),
    ((2, 3, 40, 9), (3, 1, 9)), ((3, 1, 700), (1, 4, 1)), ((0, 5), (5,)), ((0, 5), (1, 1)), ((5, 0), (5, 1)),
]  # fmt: skip
COUNTS = pytest.mark.parametrize("counts", [(0, 0), (1, 1), (1, 2), (2, 2)], ids=str)  # terms of x and y
PARTIES = pytest.mark.parametrize("party", [0, 1])


def form(shape: Shape, terms: int, party: int, kinds: Sequence[torch.dtype] = KINDS, seed: int = 0) -> Lifted:
    """A form of so many terms; the first has a number for its coefficient, the second an array."""
    kind = cycle(kinds)
    numbers = [-1, words(shape, next(kind), seed + 1)]
    secrets = [Secret(64, words(shape, next(kind), seed + 2 + i)) for i in range(terms)]
    shifts = (0, 28 + seed % 2)
    made = tuple(Term(*term) for term in zip(numbers, secrets, shifts, strict=False))
    return Lifted(words(shape, torch.int64, seed + 4), made, 64, 12, party)


def crosses(x: Lifted, y: Lifted, shape: Shape, kinds: Sequence[torch.dtype] = KINDS) -> list[native.Pair]:
    """A share for each pair of terms; a square's are the symmetric half."""
    pairs = [(i, j) for i in range(len(x.terms)) for j in range(i if x is y else 0, len(y.terms))]
    kind = cycle(kinds)
    return [native.Pair(i, j, (0, 1, 28, 63)[n], words(shape, next(kind), n)) for n, (i, j) in enumerate(pairs)]


def check_product(x: Lifted, y: Lifted, pairs: list[native.Pair], shape: Shape, level: str) -> None:
    want = in_torch(A._combine, x, y, pairs, shape)
    got = native.product(x.form(), y.form(), pairs, x.party, shape, level)
    assert got.shape == want.shape
    assert torch.equal(got, want)


@COUNTS
@PARTIES
def test_products(level: str, counts: tuple[int, int], party: int) -> None:
    for size in SIZES:
        x, y = form((size,), counts[0], party), form((size,), counts[1], party, seed=11)
        check_product(x, y, crosses(x, y, (size,)), (size,), level)


@PARTIES
def test_squares(level: str, party: int) -> None:
    for size in SIZES:
        x = form((size,), 2, party)
        check_product(x, x, crosses(x, x, (size,)), (size,), level)


@COUNTS
@pytest.mark.parametrize(("first", "second"), BROADCASTS, ids=str)
def test_broadcasts(level: str, first: Shape, second: Shape, counts: tuple[int, int]) -> None:
    shape = broadcast(first, second)
    for one, other in ((first, second), (second, first)):
        x, y = form(one, counts[0], 0), form(other, counts[1], 0, seed=11)
        check_product(x, y, crosses(x, y, shape), shape, level)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@PARTIES
def test_storage_types(level: str, party: int, kind: torch.dtype) -> None:
    """Coefficients, shares of secrets and of products in each type, whole and one per row."""
    for second in ((129, 9), (129, 1)):
        x, y = form((129, 9), 2, party, (kind,)), form(second, 2, party, (kind,), 11)
        check_product(x, y, crosses(x, y, (129, 9), (kind,)), (129, 9), level)


@pytest.mark.parametrize("factor", [1, -1, 0, 3, 2**63 - 1, -(2**63)])
def test_number_coefficients(level: str, factor: int) -> None:
    secret = Secret(64, words((65,), torch.int32, 1))
    x = Lifted(words((65,)), (Term(factor, secret, 63), Term(factor, secret, 1)), 64, 0, 1)
    y = form((65,), 2, 1)
    check_product(x, y, crosses(x, y, (65,)), (65,), level)


@PARTIES
@pytest.mark.parametrize("terms", [0, 1, 2])
def test_shares(level: str, terms: int, party: int) -> None:
    for shape in (*((size,) for size in SIZES), (), (7, 9)):
        x = form(shape, terms, party)
        assert torch.equal(native.share(x.form(), party, level), in_torch(x.shared).value)


@pytest.mark.parametrize("k", [2, 8, 9, 16, 24, 32, 33, 48, 63])
def test_growth(level: str, k: int) -> None:
    """Bits above the ring of k are arbitrary in all three."""
    for size in SIZES:
        opened, mask = (words((size,), ring.dtype(k), size + i) for i in range(2))
        for kind in KINDS:
            carry = words((size,), kind, size + 2)
            want = in_torch(A._grow, Masked(opened, Secret(k, mask), 12, 0), carry, 64)
            got = native.grow(opened, mask, carry, k, level)
            assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_operands_of_any_layout(level: str) -> None:
    def turned(x: Tensor) -> Tensor:
        return x.t().contiguous().t()

    x, y = form((65, 9), 2, 0), form((65, 9), 2, 0, seed=11)
    pairs = crosses(x, y, (65, 9))
    want = native.product(x.form(), y.form(), pairs, 0, (65, 9), level)
    strided = [
        native.Form(turned(f.public), [(c if isinstance(c, int) else turned(c), turned(s), n) for c, s, n in f.terms])
        for f in (x.form(), y.form())
    ]
    others = [native.Pair(p.left, p.right, p.shift, turned(p.share)) for p in pairs]
    assert torch.equal(native.product(*strided, others, 0, (65, 9), level), want)


def test_forms_that_are_refused(level: str) -> None:
    shape = (3, 9)
    x, share = form(shape, 1, 0).form(), words(shape)

    def product(public: Tensor = x.public, term=x.terms[0], pairs: Sequence[native.Pair] = ()) -> Tensor:  # type: ignore[no-untyped-def]
        return native.product(native.Form(public, [term]), x, pairs, 0, shape, level)

    others = share.to(torch.float64), share.to(torch.bool), words((1, 3, 9)), words((3, 1, 1))
    for y in (*strangers(share), *others):
        refuse(product, public=y)
        refuse(product, term=(1, y, 0))
        refuse(product, term=(y, share, 0))
        refuse(product, pairs=[native.Pair(0, 0, 0, y)])
    for shift in (-1, 64):
        refuse(product, term=(1, share, shift))
        refuse(product, pairs=[native.Pair(0, 0, shift, share)])
    for left, right in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        refuse(product, pairs=[native.Pair(left, right, 0, share)])
    refuse(product, pairs=[native.Pair(0, 0, 0, share)] * 5)
    many = native.Form(share, [(1, share, 0)] * 3)
    refuse(native.share, many, 0, level)
    refuse(native.share, native.Form(share, [(1, words((4, 9)), 0)]), 0, level)
    assert not native.fits(many)
    assert not native.fits(native.Form(words(shape, torch.int32), []))


def test_growth_that_is_refused(level: str) -> None:
    x = words((9,), torch.int32)
    strange = [y for y in strangers(x) if y.dtype != torch.int64]  # any storage type will do
    for y in (*strange, x.to(torch.float32)):
        refuse(native.grow, x, y, x, 24, level)
        refuse(native.grow, x, x, y, 24, level)
    refuse(native.grow, x.to("meta"), x, x, 24, level)
    for k in (1, 64):
        refuse(native.grow, x, x, x, k, level)
