"""Small programs that the meter runs, one a protocol, on shapes: what tests/support/protocol_costs.py measures.

A program opens its inputs under the label GIVEN where the protocol takes opened values; those do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from mpcnet.arrays import ring
from mpcnet.protocols import arith, compare, division, exponential, lookup, rowmax, softmax
from mpcnet.protocols.audit import Audit
from mpcnet.protocols.layernorm import layer_norm
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked, MaskedBits, Shared, Weight

GIVEN = "given"
COUNT = 64  # elements of an elementwise protocol: its bits are whole bytes
HEAD = (128, 128, 64)  # queries, keys, columns of V
WIDE_ROWS = division.RowRange(1.1, 1.1 * 2**12)  # a LayerNorm's sums of squares: seven sizes of cells
NARROW_ROWS = division.RowRange(0.8, 17.0)
ROW_SUMS = division.RowRange(0.0174, 128.0)  # exact softmax's over 128 keys
WEIGH = softmax.WeighBits(product=40, context_frac=12, result=40, frac=12)
PLAIN_WINDOW = softmax.Window(6, 9, False, (0,), (0.0,))
CLAMPED_WINDOW = softmax.Window(7, 9, True, (0,), (0.0,))

Program = Callable[[Party], Any]


def shared(shape: tuple[int, ...], bits: int, frac: int = 0) -> Shared:
    return Shared(ring.zeros(shape, bits, "meta"), bits, frac, 0)


async def opened(p: Party, shape: tuple[int, ...], bits: int, frac: int = 0) -> Masked:
    return await Party(p.source, GIVEN).open_one(shared(shape, bits, frac))


async def opened_bits(p: Party, count: int) -> MaskedBits:
    mask = Party(p.source, GIVEN).source.mask((count,), 1)
    return MaskedBits(ring.zeros((count,), 1, "meta"), mask, (count,), 0)


def elements(bits: int, frac: int = 12) -> Shared:
    return shared((COUNT,), bits, frac)


async def open_words(p: Party, bits: int) -> None:
    await p.open_one(shared((COUNT,), bits))


async def grow(p: Party, bits: int, wide: int) -> None:
    arith.lift(p, await opened(p, (COUNT,), bits), wide)


async def number_of_bit(p: Party, bits: int) -> None:
    arith.lift_bit(p, await opened_bits(p, COUNT), bits)


async def _lifted(p: Party, bits: int) -> arith.Lifted:
    return arith.lift(Party(p.source, GIVEN), await opened(p, (COUNT,), bits))


async def product(p: Party, bits: int) -> None:
    arith.product(p, await _lifted(p, bits), await _lifted(p, bits))


async def square(p: Party, bits: int) -> None:
    arith.square(p, await _lifted(p, bits))


async def matmul(p: Party, bits: int) -> None:
    arith.matmul(p, await opened(p, (8, 32), bits), await opened(p, (32, 8), bits))


async def linear(p: Party, bits: int) -> None:
    arith.linear(p, await opened(p, (8, 32), bits), Weight.of(await opened(p, (32, 8), bits)))


async def look_up(p: Party, rows: int, columns: int, bits: int) -> None:
    shape = lookup.table_shape(rows, columns, bits)
    (table,) = await Party(p.source, GIVEN).open_bits(Bits(ring.zeros(shape, 1, "meta"), shape, 0))
    index = shared((COUNT,), lookup.index_bits(rows))
    await lookup.look_up(p, index, lookup.Table.of(table, columns, bits, 0))


async def look_up_short(p: Party, rows: int, columns: int, bits: int) -> None:
    table = Weight.of(await opened(p, (rows, columns), bits))
    await lookup.look_up_short(p, shared((COUNT,), lookup.index_bits(rows, short=True)), table)


async def at_least(p: Party, bits: int, drop: int, thresholds: int) -> None:
    await compare.at_least(p, await opened(p, (COUNT,), bits), [0.0] * thresholds, drop)


async def numerators(p: Party, clamped: bool) -> None:
    x = await opened(p, (COUNT,), 9 + 12, 12)
    keep = torch.tensor(1)
    if clamped:
        await exponential.clamped_exponential(p, x, 7, 16, keep)
    else:
        exponential.exponential(p, x, 16, keep)


async def coarse_max(p: Party, bits: int, keys: int) -> None:
    await rowmax.coarse_max(p, await opened(p, (8, keys), 9 + 12, 12), bits, torch.ones(keys))


def scores(window: softmax.Window) -> Program:
    queries, keys, _ = HEAD
    return lambda p: softmax.windowed_exponentials(
        p, shared((1, 1, queries, keys), 22, 12), torch.ones(keys), 16, window
    )


async def weigh(p: Party, inverse: softmax.Inverse) -> None:
    queries, keys, columns = HEAD
    numerators, value = shared((queries, keys), 40, 16), shared((keys, columns), 40, 12)
    await softmax.weigh(p, numerators, value, ROW_SUMS, WEIGH, inverse)


async def normalise(p: Party, rows: division.RowRange, root: Any) -> None:
    await layer_norm(p, shared((8, 768), 28, 14), 1e-12, rows, 14, 12, root)


async def _looked_at(p: Party, check: Callable[[Party, Audit], Any]) -> None:
    """A check of an audit of one sentence, whose own rounds are shown as if nothing else paid for them."""
    audit = Audit(torch.ones(1, COUNT))
    check(replace(p, audit=audit), audit)
    await audit._openings.finish()


async def within(p: Party) -> None:
    x = await opened(p, (1, COUNT, 1), 24)
    await _looked_at(p, lambda q, audit: audit.within(q, x, 1 << 22))


async def norms(p: Party) -> None:
    x = await opened(p, (1, 1, COUNT, 64), 32, 11)
    await _looked_at(p, lambda q, audit: audit.norms(q, 1000.0, x))


async def root(p: Party) -> None:
    x, y = shared((1, COUNT, 1), 64, 28), shared((1, COUNT, 1), 37, division.ROW_FRAC)
    await _looked_at(p, lambda q, audit: audit.root(q, x, y, NARROW_ROWS.low, NARROW_ROWS.high, 1.0))


async def inverse(p: Party) -> None:
    x, z = shared((1, COUNT, 1), 40, 16), shared((1, COUNT, 1), 36, division.Z_FRAC)
    await _looked_at(p, lambda q, audit: audit.inverse(q, x, z, ROW_SUMS.low, ROW_SUMS.high, 2.0**7))


async def verdict(p: Party) -> None:
    audit = Audit(torch.ones(1, COUNT))
    audit.tell(p)
    await audit.verdict(p)
