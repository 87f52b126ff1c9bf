"""SHAFT's functions: softmax as an ordinary differential equation, and GeLU by a Fourier series about ReLU.

| function | as published | served here |
|---|---|---|
| `probabilities` | x = min(max(s, -4), 12) / 16, g = 1/n, and 16 times g <- g + g (x - <g, x>) | scores from -4 to 12 |
| `gelu` | relu(x) + [x in (-4, 4)] F(abs x), F of eight sines of period 8 | every x of the ring |
| `rsqrt` | CrypTen's by 5 steps | 0.02 to 183, to 1 part in 128 |

The equation needs no maximum, exponential or division: sums of g stay 1. What is clipped is another softmax's, and an
audit is told of it. Padding has g = 0 from the start; there it is a score of -4 like others below.
"""

from __future__ import annotations

from torch import Tensor

from mpcnet.protocols.arith import lift, lift_bit, own_ring, product
from mpcnet.protocols.compare import at_least
from mpcnet.protocols.crypten import newton_rsqrt
from mpcnet.protocols.division import RowRange
from mpcnet.protocols.party import Party
from mpcnet.protocols.series import Series, fourier
from mpcnet.protocols.share import Shared
from mpcnet.protocols.squaring import BITS, FRAC, combined
from mpcnet.rounds import parallel

LOW, HIGH = -4.0, 12.0  # scores are clipped to
STEP_BITS = 4  # 2^4 steps
CLIPPED_BITS = 6  # before the point, of the ring that a clipped score is opened in
INNER_FRAC = 16  # of <g, x>, and of x / 16 for 12 fraction bits: their product with g fits 40 bits
STEP_RING = 40
ROOT_STEPS = 5
CUT = 4.0
SINES = (-0.0818, -0.0809, -0.0424, -0.0176, -0.0079, -0.0043, -0.0026, -0.0017)
BEND = Series(8, sine=tuple(enumerate(SINES, 1)))


async def probabilities(p: Party, scores: Shared, keep: Tensor, bits: int, frac: int, *, sure: bool = False) -> Shared:
    """Softmax of clipped scores by 16 Euler steps, zero where `keep` is 0: [..., query, key]. Rows add up to 1. `frac`
    fraction bits in a ring of `bits`.

    Rounds   35: scores, comparisons, their bits, clipped scores, and two a step; the first starts from public values
    Sends    53.25 bytes a score and 48 a row each way for scores of 22 bits with 12 fraction bits
    Offline  437 bytes a score for 128 keys
    Error    that of 16 Euler steps, up to 0.05 of a probability; roundings of 4e-5
    Source   [SHAFT], softmax by an ordinary differential equation; 41 rounds there
    """
    clipped = await _clipped(p, scores, keep)
    x = await p.open_one(clipped)
    fine = lift(p, x, STEP_RING, sure=True).affine(1, 0.0, STEP_BITS)
    start = keep.double() / keep.double().sum(-1, keepdim=True).clamp(min=1)
    words = (start * 2.0**FRAC).round().long()
    moved = fine.shared().scale(words, FRAC)
    inner = lift(p, await p.open_one(p.rescale(moved.sum(-1, keepdim=True), INNER_FRAC)), STEP_RING, sure=True)
    change = moved + -inner.shared().scale(words, FRAC)
    g = p.rescale(change, FRAC).reduce(BITS) + start
    for step in range(1, 1 << STEP_BITS):
        last = step + 1 == 1 << STEP_BITS
        ring, left = (bits + INNER_FRAC + FRAC - frac, frac) if last else (STEP_RING, FRAC)
        wide_x = lift(p, x, ring, sure=True).affine(1, 0.0, STEP_BITS) if last else fine
        wide_g = lift(p, await p.open_one(g), ring, sure=True)
        moved = product(p, wide_g, wide_x)
        mean = p.rescale(moved.sum(-1, keepdim=True), INNER_FRAC).reduce(INNER_FRAC + 4)
        inner = lift(p, await p.open_one(mean), ring, sure=True)
        total = p.rescale(wide_g.shared(), moved.frac) + moved + -product(p, wide_g, inner)
        g = p.rescale(total, left)
        g = g if last else g.reduce(BITS)
    return g.scale(keep)


async def _clipped(p: Party, scores: Shared, keep: Tensor) -> Shared:
    """Scores between LOW and HIGH, 0 where `keep` is 0. An audit is told of those that are outside.

    Rounds   3
    """
    opened = await p.open_one(scores.scale(keep))
    low, above = await at_least(p, opened, [LOW, HIGH])
    p.audit.flag(lambda: [low.flip(), above], keep)
    inside, top = await p.open_bits(low ^ above, above)
    width = CLIPPED_BITS + opened.frac
    shifted = own_ring(opened.reduce(width)).affine(1, -LOW)  # outside it is multiplied by 0
    ends = lift_bit(p, top, width).shared().scale(round(HIGH - LOW) << opened.frac, opened.frac)
    return product(p, lift_bit(p, inside, width), shifted) + ends + LOW


async def gelu(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """relu(x) + [|x| < 4] F(|x|), F of eight sines; x.frac fraction bits in a ring of `bits`.

    F is odd, so F(|x|) = sign(x) F(x): one opening serves both comparisons, the sines and the ReLU.

    Rounds   3
    Sends    8.375 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  142 bytes an element for a ring of 40
    Error    <= 4.9e-3 absolute, of which the series' are 4.5e-3; 19 rounds there
    Source   [SHAFT], GELU by Fourier series about ReLU
    """
    opened = await p.open_one(x)
    bend = p.rescale(fourier(p, opened, BEND, x.frac + 4 + 16, x.frac + 2, dealt_frac=14), x.frac)
    grown = lift(p, opened, bits, sure=sure)
    low, zero, high = await at_least(p, opened, [-CUT, 0.0, CUT])
    chosen = p.open_bits(low ^ zero, zero ^ high, zero)
    (below, above, positive), (waves,) = await parallel(chosen, p.open(bend))
    sign = combined(p, [below, above], [-1, 1], 0, 0, bits)
    return product(p, sign, lift(p, waves, bits, sure=True)) + product(p, lift_bit(p, positive, bits), grown)


async def rsqrt(p: Party, x: Shared, rows: RowRange, factor: float = 1.0) -> Shared:
    """factor / sqrt(x), at ROW_FRAC fraction bits: of the variance x / factor^2 from 0.02 to 183.

    Rounds   18: :func:`mpcnet.protocols.crypten.rsqrt` with two steps more
    Sends    103 bytes a row each way
    Offline  505 bytes a row
    Error    relative <= 8e-3 for variances from 0.02 to 183, 4e-3 from 0.0234 to 181.8; 1e-3 from 0.04 to 178
    Source   [CrypTen], inv_sqrt; 5 steps by [SHAFT]'s settings
    """
    return await newton_rsqrt(p, x, rows, factor, ROOT_STEPS)
