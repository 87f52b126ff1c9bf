"""Products at every level against integers: odd sizes, extreme words, layouts, terms; and what is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import library, matmul
from mpcnet.arrays.native.matmul import Packed

BITS = (9, 12, 16, 17, 24, 32, 33, 40, 48, 52, 53, 64)
SIZES = (1, 7, 8, 9, 127, 129)

pytestmark = pytest.mark.skipif(library.load() is None, reason="the kernels were not built")
at_every_level = pytest.mark.parametrize("level", library.levels())


def words(shape: tuple[int, ...], bits: int, seed: int = 0) -> Tensor:
    """Random words with arbitrary bits above the ring, the first few of them extreme."""
    x = torch.randint(-(2**63), 2**63 - 1, shape, generator=torch.Generator().manual_seed(seed))
    extreme = torch.tensor([-1, 0, -(2**63), 2**63 - 1, (1 << bits - 1) - 1, -(1 << bits - 1)])
    x.view(-1)[: min(x.numel(), 6)] = extreme[: min(x.numel(), 6)]
    return ring.fit(x, bits)


def exact(a: Tensor, b: Tensor, bits: int) -> Tensor:
    """The product by numpy, whose integers wrap, in 64 bits."""
    return torch.from_numpy(np.matmul(a.to(torch.int64).numpy(), b.to(torch.int64).numpy()))


def same(got: Tensor, want: Tensor, bits: int) -> bool:
    return got.dtype == ring.dtype(bits) and torch.equal(ring.reduce(got, bits), ring.reduce(want, bits))


def packed(b: Tensor, bits: int, level: str | None = None) -> Packed:
    raw = torch.from_numpy(ring.pack(b, bits))
    return Packed.of(raw.reshape(*b.shape, -1), level)


@at_every_level
@pytest.mark.parametrize("bits", BITS)
def test_odd_sizes(bits: int, level: str) -> None:
    for index, m in enumerate(SIZES):
        for k in SIZES:
            n = SIZES[(index + k) % len(SIZES)]
            a, b = words((m, k), bits, k), words((k, n), bits, n)
            assert same(matmul.product(a, b, bits, level), exact(a, b, bits), bits), (m, k, n)


@at_every_level
@pytest.mark.parametrize("bits", BITS)
def test_more_than_a_block(bits: int, level: str) -> None:
    a, b = words((261, 391), bits, 1), words((391, 307), bits, 2)
    assert same(matmul.product(a, b, bits, level), exact(a, b, bits), bits)


@at_every_level
@pytest.mark.parametrize("bits", [16, 32, 48])
def test_all_words_extreme(bits: int, level: str) -> None:
    for word in (-1, 1 << bits - 1, (1 << bits - 1) - 1):
        a, b = torch.full((9, 400), word), torch.full((400, 50), word)
        got = matmul.product(ring.fit(a, bits), ring.fit(b, bits), bits, level)
        assert same(got, torch.full((9, 50), 400 * word * word % 2**bits), bits)


@at_every_level
@pytest.mark.parametrize("bits", [40, 48])
def test_all_digits_extreme(bits: int, level: str) -> None:
    """Words whose lowest 13 or 16 bits are largest, or farthest from a multiple of 16: the bounds of csrc/matmul_digits.c."""
    extreme = (0x1000, 0x0FFF, 0x3FF_F000, 0x400_1000, 0x8000, 0x8007, 0x8008, 0x7FFF, 0x7FF8, 0x7FF7, 0x18008_8008)
    for one in extreme:
        for other in extreme:
            a, b = torch.full((3, 400), one), torch.full((400, 9), other)
            assert same(matmul.product(a, b, bits, level), torch.full((3, 9), 400 * one * other % 2**bits), bits)


@at_every_level
@pytest.mark.parametrize("bits", BITS)
def test_layouts_of_the_right_operand(bits: int, level: str) -> None:
    """Transposed, every second column, a broadcast row, and packed at wire width up to the end of its memory."""
    for k, n in ((1, 1), (7, 9), (64, 128), (129, 33), (200, 77)):
        a, b = words((10, k), bits, 3), words((k, n), bits, 4)
        want = exact(a, b, bits)
        layouts = (b.t().contiguous().t(), torch.stack((b, b), -1).reshape(k, 2 * n)[:, ::2], packed(b, bits, level))
        assert all(same(matmul.product(a, layout, bits, level), want, bits) for layout in layouts), (k, n)
        row = b[:1].expand(k, n)
        assert same(matmul.product(a, row, bits, level), exact(a, row, bits), bits)


@at_every_level
def test_left_operand_that_is_not_contiguous(level: str) -> None:
    a, b = words((60, 41), 48, 5), words((60, 30), 48, 6)
    assert same(matmul.product(a.t(), b, 48, level), exact(a.t(), b, 48), 48)
    assert same(
        matmul.product(b[:, 3:20].contiguous().t()[:, ::2], a[::2], 48, level),
        exact(b[:, 3:20].t()[:, ::2], a[::2], 48),
        48,
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((3, 5, 7), (7, 9)),
        ((2, 3, 5, 7), (2, 3, 7, 9)),
        ((2, 3, 5, 7), (3, 7, 9)),
        ((5, 7), (4, 7, 9)),
        ((2, 1, 5, 7), (1, 3, 7, 9)),
        ((2, 1, 2, 1, 5, 7), (1, 3, 1, 2, 7, 9)),
    ],
)
@pytest.mark.parametrize("bits", [16, 32, 48])
def test_batches_are_broadcast(bits: int, one: tuple[int, ...], other: tuple[int, ...]) -> None:
    a, b = words(one, bits, 7), words(other, bits, 8)
    want = exact(a, b, bits)
    assert same(matmul.product(a, b, bits), want, bits)
    assert same(matmul.product(a, packed(b, bits), bits), want, bits)


@at_every_level
@pytest.mark.parametrize("bits", BITS)
def test_terms_are_combined_in_one_pass(bits: int, level: str) -> None:
    for m, n in ((1, 1), (9, 55), (130, 300)):
        a, b, c, d = (
            words((m, 50), bits, 1),
            words((50, n), bits, 2),
            words((m, 219), bits, 3),
            words((219, n), bits, 4),
        )
        e = words((m, n), bits, 5)
        want = e.to(torch.int64) + exact(a, b, bits) - exact(c, d, bits)
        got = matmul.combine(((1, a, b), (-1, c, packed(d, bits, level))), e, bits, level)
        assert same(got, want, bits)
    batch = e.expand(3, m, n)
    got = matmul.combine(((-1, a.expand(3, m, 50), b),), batch, bits, level)
    assert same(got, batch.to(torch.int64) - exact(a, b, bits), bits)


@pytest.mark.parametrize("columns", [1, 47, 48, 49, 100])
def test_strips_hold_every_word(columns: int) -> None:
    words = torch.arange(2 * 5 * columns * 6).to(torch.uint8).reshape(2, 5, columns, 6)
    strips = Packed.of(words, "portable")
    assert strips.shape == (2, 5, columns) and torch.equal(strips.words(), words)
    whole = columns // matmul.STRIP * matmul.STRIP
    assert whole == 0 or torch.equal(strips.raw[0].view(-1)[: 5 * 48 * 6], words[0, :, :48].reshape(-1))
    rest = words[0, :, whole:].reshape(-1)
    assert torch.equal(strips.raw[0].view(-1)[5 * whole * 6 :], rest)


@pytest.mark.skipif("amx" not in library.levels(), reason="this processor has no AMX")
@pytest.mark.parametrize("bits", [16, 24, 32, 40, 48, 64])
@pytest.mark.parametrize(("depth", "columns"), [(63, 48), (64, 47), (64, 48), (65, 49), (128, 96), (1000, 100)])
def test_planes_hold_every_word(bits: int, depth: int, columns: int) -> None:
    """And give the same products: one row, more than a block of them, and with words that are not split beside."""
    both = words((2, depth, columns), bits, 1)
    raw = torch.from_numpy(ring.pack(both, bits)).reshape(2, depth, columns, -1)
    planes = Packed.of(raw)
    assert planes.planes and planes.shape == (2, depth, columns) and torch.equal(planes.words(), raw)
    a = words((2, 131, depth), bits, 2)
    assert same(matmul.product(a, planes, bits), exact(a, both, bits), bits)
    one, b = Packed.of(raw[1]), both[1]
    assert same(matmul.product(a[0, :1], one, bits), exact(a[0, :1], b, bits), bits)
    got = matmul.combine(((1, a[0], one), (-1, a[1], both[0])), None, bits)
    assert same(got, exact(a[0], b, bits) - exact(a[1], both[0], bits), bits)


@pytest.mark.skipif("amx" not in library.levels(), reason="this processor has no AMX")
def test_planes_are_for_amx() -> None:
    planes = packed(words((64, 48), 48), 48)
    with pytest.raises(ValueError, match="want words in strips at level avx2, got planes"):
        matmul.product(words((9, 64), 48), planes, 48, "avx2")


@at_every_level
def test_a_term_without_depth_is_zero(level: str) -> None:
    a, b, none = words((9, 50), 48, 1), words((50, 55), 48, 2), words((9, 0), 48)
    got = matmul.combine(((1, none, words((0, 55), 48)), (-1, a, b)), None, 48, level)
    assert same(got, -exact(a, b, 48), 48)


@pytest.mark.parametrize(("m", "k", "n"), [(0, 5, 3), (5, 0, 3), (5, 3, 0), (0, 0, 0)])
def test_nothing_to_multiply(m: int, k: int, n: int) -> None:
    c = words((m, n), 48)
    a, b = words((m, k), 48), words((k, n), 48)
    assert torch.equal(matmul.product(a, b, 48), torch.zeros(m, n, dtype=torch.int64))
    assert torch.equal(matmul.combine(((1, a, b),), c, 48), c)
    assert matmul.product(a.expand(0, m, k), b.expand(0, k, n), 48).shape == (0, m, n)


@pytest.mark.parametrize("shapes", [((300, 200), (200, 500)), ((3, 200, 100), (3, 100, 200)), ((2000, 60), (60, 30))])
def test_threads_share_the_work(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = words(shapes[0], 48, 1), words(shapes[1], 48, 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        assert same(matmul.product(a, b, 48), exact(a, b, 48), 48)
    finally:
        torch.set_num_threads(before)


def long(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


@pytest.mark.parametrize(
    ("a", "b", "bits", "reason"),
    [
        (long(3, 4), long(5, 6), 48, "matrix product of"),
        (long(4), long(4, 6), 48, "matrix product of"),
        (long(3, 4), long(4), 48, "matrix product of"),
        (long(2, 3, 4), long(3, 4, 5), 48, "cannot broadcast"),
        (long(2, 2, 2, 2, 2, 3, 4), long(2, 2, 2, 2, 2, 4, 5), 48, "batch of up to 4"),
        (long(3, 4), long(4, 6), 32, "want torch.int32"),
        (long(3, 4), long(4, 6).int(), 48, "want torch.int64"),
        (long(3, 4), long(4, 6).to("meta"), 48, "on meta"),
        (long(3, 4), long(4, 6), 8, "9 bits or more"),
        (long(3, 4), long(4, 6), 65, "1 to 64 bits"),
        (long(3, 4), Packed(torch.zeros(4, 6, 5, dtype=torch.uint8)), 48, "packed words of 6 bytes"),
        (long(3, 4), Packed(torch.zeros(4, 6, 12, dtype=torch.uint8)[..., ::2]), 48, "packed words of 6 bytes"),
        (long(3, 4), Packed(long(4, 6, 6)), 48, "want torch.uint8"),
    ],
)
def test_wrong_operands_are_refused(a: Tensor, b: matmul.Right, bits: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        matmul.product(a, b, bits)


def test_wrong_terms_are_refused() -> None:
    a, b = long(3, 4), long(4, 6)
    for terms, c in (
        ((), None),
        (((2, a, b),), None),
        (((1, a, b), (1, a, long(4, 5))), None),
        (((1, a, b),), long(6)),
    ):
        with pytest.raises(ValueError, match="matrix product: "):
            matmul.combine(terms, c, 48)
