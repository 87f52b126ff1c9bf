"""One-hot tables of digits, and what is read from xor shares of them, against Python's integers."""

from itertools import accumulate, chain

import pytest
import torch
from checks import few
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.randomness import onehot

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)
WORDS = st.integers(-(2**63), 2**63 - 1)


def digits(word: int, sizes: tuple[int, ...], drop: int) -> list[int]:
    starts = accumulate(sizes, initial=drop)
    return [(word >> start) % 2**size for start, size in zip(starts, sizes, strict=False)]


def row(word: int, sizes: tuple[int, ...], drop: int) -> list[int]:
    return [
        int(i == digit) for digit, size in zip(digits(word, sizes, drop), sizes, strict=True) for i in range(1 << size)
    ]


def shares(rows: Tensor) -> tuple[Tensor, Tensor]:
    first = torch.randint(0, 256, rows.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return first, rows ^ first


@few
@given(SIZES, st.integers(0, 12), st.lists(WORDS, max_size=5))
def test_tables(sizes: tuple[int, ...], drop: int, words: list[int]) -> None:
    rows = onehot.tables(torch.tensor(words, dtype=torch.int64), sizes, drop)
    assert onehot.entries(sizes) == sum(2**size for size in sizes)
    bits = ring.unpack_bits(rows, (len(words), onehot.entries(sizes)))
    assert bits.tolist() == [row(word, sizes, drop) for word in words]


@few
@given(SIZES, st.integers(0, 12), st.lists(st.tuples(WORDS, WORDS, st.booleans()), min_size=1, max_size=9))
def test_what_both_shares_say_of_a_public_digit(
    sizes: tuple[int, ...], drop: int, cases: list[tuple[int, int, bool]]
) -> None:
    """The xor of what is read from each share is the comparison of the digits; equal words are among them."""
    secret = [a for a, _, _ in cases]
    public = [a if same else b for a, b, same in cases]
    rows = shares(onehot.tables(torch.tensor(secret), sizes, drop))
    pairs = [
        list(zip(digits(p, sizes, drop), digits(s, sizes, drop), strict=True))
        for p, s in zip(public, secret, strict=True)
    ]
    first, second = (onehot.read(share, torch.tensor(public), sizes, drop).digits for share in rows)
    assert len(first) == len(second) == len(sizes)
    for side, relation in enumerate((int.__lt__, int.__eq__)):
        for index in range(len(sizes)):
            got = ring.unpack_bits(first[index][side] ^ second[index][side], (len(cases),)).tolist()
            assert got == [int(relation(*pair[index])) for pair in pairs]


def test_every_pair_of_digits() -> None:
    """All 8 x 8 pairs of 3-bit digits, in a table of two dimensions, as words of 16 bits."""
    secret = torch.arange(8, dtype=torch.int16).unsqueeze(1).expand(8, 8)
    public = torch.arange(8, dtype=torch.int16).unsqueeze(0).expand(8, 8)
    rows = onehot.tables(secret, (3,))
    ((less, equal),) = onehot.read(rows, public, (3,)).digits
    assert torch.equal(ring.unpack_bits(equal, (8, 8)), (public == secret).to(torch.uint8))
    assert torch.equal(ring.unpack_bits(less, (8, 8)), (public < secret).to(torch.uint8))


@pytest.mark.parametrize("sizes", [(3,), (2, 3)])
def test_the_public_word_may_be_moved(sizes: tuple[int, ...]) -> None:
    secret, public = torch.arange(32).flip(0), torch.arange(32)
    rows = onehot.tables(secret, sizes, 1)
    moved, same = onehot.read(rows, public, sizes, 1, 3), onehot.read(rows, public - 3, sizes, 1)
    pairs = zip(moved.digits, same.digits, strict=True)
    assert all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))
    assert torch.equal(moved.above, same.above)


@pytest.mark.parametrize(("sizes", "drop"), [((3,), 0), ((2, 3), 1), ((3, 4), 56), ((8,) * 8, 0)])
def test_the_public_bit_above_the_digits(sizes: tuple[int, ...], drop: int) -> None:
    public = torch.tensor([0, -1, 7, 8, 1 << 62, -(1 << 63), 5, 63, 64, 65])
    above = onehot.read(onehot.tables(public, sizes, drop), public, sizes, drop, 1).above
    want = [(word - 1) % 2**64 >> (drop + sum(sizes)) & 1 for word in public.tolist()]
    assert ring.unpack_bits(above, (10,)).tolist() == want


def arrays(read: onehot.Read) -> list[Tensor]:
    return [*chain.from_iterable(read.digits), read.above]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 5)])
def test_shapes_without_data(shape: tuple[int, ...]) -> None:
    sizes = (2, 3)
    public = torch.zeros(shape, dtype=torch.int64)
    real = onehot.read(onehot.tables(public, sizes), public, sizes)
    only = onehot.read(ring.zeros((*shape, onehot.entries(sizes)), 1, "meta"), ring.zeros(shape, 64, "meta"), sizes)
    assert [(x.shape, x.dtype) for x in arrays(only)] == [(x.shape, x.dtype) for x in arrays(real)]


@pytest.mark.parametrize("sizes", [(3,), (2,)])
def test_rows_of_other_digits_are_refused(sizes: tuple[int, ...]) -> None:
    words = torch.arange(5)
    rows = onehot.tables(words, (3, 2))
    with pytest.raises(ValueError, match=r"want .*got .*\[8\]"):
        onehot.read(rows, words, sizes)
