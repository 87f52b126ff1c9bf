"""No kernel touches memory beyond what it was given: operands and results lie beside pages that nobody may touch."""

import ctypes
import os
from collections.abc import Callable

import pytest
import torch
from fences import END, START, fenced, fenced_results
from kernels import KINDS, words
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import (
    bitmatrix,
    exponential,
    fss,
    histogram,
    keystream,
    library,
    lifted,
    matmul,
    onehot,
    packing,
    parity,
    series,
)
from mpcnet.arrays.native.matmul import Packed
from mpcnet.protocols import exponential as exponentials
from mpcnet.protocols import series as serieses
from mpcnet.randomness import fss as points

pytestmark = pytest.mark.skipif(library.load() is None, reason="the kernels were not built")
at_every_level = pytest.mark.parametrize("level", library.levels())
both_sides = pytest.mark.parametrize("side", [START, END])

COUNTS = (1, 7, 8, 9, 63, 65, 129)
BITS = (12, 16, 22, 24, 32, 36, 40, 48, 52, 64)  # every width on the wire, and every kind of tile
SIZES = ((1, 1, 1), (9, 65, 49), (17, 129, 97), (8, 64, 48))  # of products: rows, depth, columns

Place = Callable[[Tensor], Tensor]
Call = Callable[[Place], Tensor | tuple[Tensor, ...]]


def same(call: Call, side: str) -> None:
    """What `call` makes of the tensors that it places, at the edge and elsewhere."""
    want = call(lambda x: x)
    with fenced_results(side):
        got = call(lambda x: fenced(x, side))
    for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (got, want)), strict=True):
        assert torch.equal(one, other)


@at_every_level
@both_sides
@pytest.mark.parametrize("bits", BITS)
def test_packing(bits: int, side: str, level: str) -> None:
    for count in COUNTS:
        x, y = (ring.fit(words((count,), seed=seed), bits) for seed in range(2))
        raw = torch.from_numpy(packing.pack(x, bits))

        def call(place: Place, x: Tensor = x, y: Tensor = y, raw: Tensor = raw) -> tuple[Tensor, ...]:
            mine = place(x)
            opened = packing.unpack_sum(place(raw).numpy(), mine, bits, level)
            packed = (packing.pack(mine, bits, level), packing.pack_difference(mine, place(y), bits, level))
            return (*map(torch.from_numpy, packed), packing.unpack(place(raw).numpy(), x.shape, bits, level), opened)

        same(call, side)


@at_every_level
@both_sides
@pytest.mark.parametrize("bits", BITS)
def test_products(bits: int, side: str, level: str) -> None:
    """Right operands in rows, in columns, at wire width, and in planes where the level has them."""
    for m, k, n in SIZES:
        a, b, c = (ring.fit(words(shape, seed=seed), bits) for seed, shape in enumerate(((m, k), (k, n), (m, n))))
        raw = torch.from_numpy(ring.pack(b, bits)).reshape(k, n, -1)

        def call(place: Place, a: Tensor = a, b: Tensor = b, c: Tensor = c, raw: Tensor = raw) -> tuple[Tensor, ...]:
            left, packed = place(a), Packed.of(place(raw), level)
            rights = place(b), place(b.t().contiguous()).t(), Packed(place(packed.raw), packed.planes)
            return tuple(
                ring.reduce(matmul.combine(((sign, left, right),), start, bits, level), bits)
                for sign, right, start in zip((1, -1, 1), rights, (None, place(c), place(c)), strict=True)
            )

        same(call, side)


@both_sides
def test_bit_products(level: str, side: str) -> None:
    for rows, depth, columns in ((1, 1, 1), (3, 31, 127), (129, 33, 129), (2, 64, 128)):
        chosen, table = words((rows, (depth + 7) // 8), torch.uint8), words((depth, columns), torch.uint8, 1)
        start = words((rows, columns), torch.uint8, 2)

        def call(place: Place, chosen: Tensor = chosen, table: Tensor = table, start: Tensor = start) -> Tensor:
            out = place(start.clone())
            bitmatrix.add_product(place(chosen), place(table), out, level)
            return out

        same(call, side)


@both_sides
def test_exponential(level: str, side: str) -> None:
    tables, values, shift = exponentials._factors(3), exponentials._values(3), 36
    for count in COUNTS:
        x, shares = words((count,)), words((count, 8), seed=1)

        def call(place: Place, x: Tensor = x, shares: Tensor = shares) -> tuple[Tensor, ...]:
            coarse, fine = map(place, tables)
            total = exponential.weighted_sum(place(x), coarse, fine, shift, place(shares), 4, level)
            return total, exponential.rows(place(x), place(values), 8, level)

        same(call, side)


@both_sides
@pytest.mark.parametrize("buckets", histogram.BUCKETS)
def test_histogram(level: str, buckets: int, side: str) -> None:
    opened, keep = words((9, 7), torch.int16), words((9, 7), torch.uint8) & 1
    tables = words((9, 7, buckets), torch.uint8)

    def call(place: Place) -> tuple[Tensor, ...]:
        counts = histogram.counts(place(opened), place(keep), place(tables), level)
        return counts, histogram.rows(place(opened), buckets, level)

    same(call, side)


@both_sides
@pytest.mark.parametrize("buckets", histogram.BUCKETS)
def test_parity(level: str, buckets: int, side: str) -> None:
    opened, keep = words((9, 37), torch.int16), words((9, 37), torch.uint8) & 1
    tables, coefficients = words((9 * 37 * buckets // 8,), torch.uint8), words((37, buckets))

    def call(place: Place) -> tuple[Tensor, ...]:
        return tuple(
            parity.parities(place(opened), place(keep), place(tables), place(coefficients), nbytes, level)
            for nbytes in (1, 5, 8)
        )

    same(call, side)


@pytest.mark.skipif(not keystream.usable(), reason="no VAES")
@both_sides
def test_keystream(side: str) -> None:
    def call(place: Place) -> tuple[Tensor, ...]:
        counter = keystream.Counter(bytes(range(16)))
        return tuple(torch.from_numpy(counter.draw(count)) for count in (1, 15, 16, 17, 511, 513, 65_537))

    same(call, side)


@both_sides
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_lifted(level: str, kind: torch.dtype, side: str) -> None:
    for shape, shares in (((7, 9), (7, 9)), ((7, 9), (7, 1)), ((7, 9), (9,)), ((40, 65), (40, 1)), ((1,), ())):
        public, factor, share = words(shape), words(shares, kind, 1), words(shares, kind, 2)

        def call(
            place: Place, shape: tuple[int, ...] = shape, public: Tensor = public, factor: Tensor = factor,
            share: Tensor = share,
        ) -> tuple[Tensor, ...]:  # fmt: skip
            form = lifted.Form(place(public), [(-1, place(share), 0), (place(factor), place(share), 28)])
            pairs = [lifted.Pair(i, j, i + j, place(share)) for i in range(2) for j in range(2)]
            grown = lifted.grow(place(public), place(share), place(factor), 24, level)
            return (lifted.product(form, form, pairs, 1, shape, level), lifted.share(form, 0, level), *grown)

        same(call, side)


@both_sides
@pytest.mark.parametrize("sizes", [(3,), (5, 4, 4), (3, 8, 7, 3, 6)], ids=str)
def test_onehot(level: str, sizes: tuple[int, ...], side: str) -> None:
    for count in COUNTS:
        x = words((count,))

        def call(place: Place, x: Tensor = x) -> tuple[Tensor, ...]:
            rows = onehot.tables(place(x), sizes, 2, level)
            return rows, onehot.read(place(rows), place(x), 5, sizes, 2, level)

        same(call, side)


@both_sides
@pytest.mark.parametrize("kind", series.WAVES, ids=str)
@pytest.mark.parametrize("size", [10, 13])
def test_series(level: str, size: int, kind: torch.dtype, side: str) -> None:
    angles, k = serieses._angles(size), (1, 3)
    for count in COUNTS:
        x, shares = words((count,)), words((4, count), kind)

        def call(place: Place, x: Tensor = x, shares: Tensor = shares) -> tuple[Tensor, ...]:
            placed = series.Angles(place(angles.coarse), place(angles.fine))
            total = series.weighted_sum(place(x), placed, k, k, k, 7, place(shares), level)
            return total, series.waves(place(x), placed, k, 14, kind, level)

        same(call, side)


@pytest.mark.skipif(not fss.usable(), reason="no AES instructions")
@both_sides
@pytest.mark.parametrize("rows", [1, 33])
def test_point_functions(rows: int, side: str) -> None:
    payload, roots, table = words((rows, 3, 4)), [words((rows, 2), seed=n) for n in range(2)], words((3, 24, 4))
    opened = words((rows,)) & (1 << 22) - 1

    def call(place: Place) -> tuple[Tensor, ...]:
        raw = torch.frombuffer(bytearray(b"".join(points.Hashes.of(b"", 0).keys)), dtype=torch.uint8).reshape(4, 16)
        keys, (first, second) = place(fss.schedule(place(raw))), map(place, roots)
        corrections = fss.generate(keys, place(opened), place(payload), (first, second))
        total = fss.weighted_sum(keys, 1, second, place(corrections), place(opened), 13, place(table), 20)
        return corrections, total

    same(call, side)


@both_sides
def test_fences_hold(side: str) -> None:
    """The system can neither read nor write the byte beyond the edge."""
    x = fenced(torch.zeros(3, dtype=torch.int64), side)
    beyond = (ctypes.c_char * 1).from_address(x.data_ptr() - 1 if side == START else x.data_ptr() + 24)
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Bad address"):
            os.write(writing, beyond)
        os.write(writing, b"x")
        with pytest.raises(OSError, match="Bad address"):
            os.readv(reading, [beyond])
    finally:
        os.close(reading)
        os.close(writing)
