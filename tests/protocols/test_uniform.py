"""What is opened, and what is sent, is uniform over exactly its ring, and says nothing about the secret.

The inputs are constants, so any structure in an opened value would be structure of the secret. The seeds are fixed:
a test that passes once passes always; the bounds are those of one chance in a million per statistic.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from math import ceil, sqrt

import numpy as np
import pytest
import torch
from checks import chi_square
from lockstep import Run, Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols import cells
from mpcnet.protocols.argmax import one_hot_argmax
from mpcnet.protocols.arith import pi_mul
from mpcnet.protocols.audit import Audit
from mpcnet.protocols.compare import pi_lt
from mpcnet.protocols.division import RowRange
from mpcnet.protocols.exponential import clamped_exponential, exponential
from mpcnet.protocols.gelu import gelu, pi_gelu, pi_gelu_polynomial, tanh
from mpcnet.protocols.layernorm import layer_norm
from mpcnet.protocols.lookup import Table, look_up, look_up_short, table_shape
from mpcnet.protocols.party import Party
from mpcnet.protocols.quad import quad
from mpcnet.protocols.share import Bits, Shared, Weight
from mpcnet.protocols.softmax import RELU_EPS, WeighBits, Window, exponentials, relus, squares, weigh
from mpcnet.rounds import Part, parallel

COUNT = 2400  # elements of the elementwise functions
LEAST = 2000  # samples a statistic of 64 categories needs
KEYS = torch.ones(12, dtype=torch.int64)


async def everything(p: Party, x: Shared, scores: Shared, value: Shared, centred: Shared, wide: Shared) -> None:
    """Every protocol of a layer, and those of both suites."""

    async def exact() -> Shared:
        await exponentials(p, scores, KEYS, 16, [Window(6, 9, True, (0,), (-3.0,))])
        weights = await exponentials(p, scores, KEYS, 16, [Window(7, 10, False, (0,), (0.0,))])
        return await weigh(p, weights, value.reduce(40), RowRange(0.0174, 128.0), WeighBits(40, 17, 40, 12))

    async def two_quad() -> Shared:
        weights = await squares(p, scores, KEYS, 48, 12)
        return await weigh(p, weights, value, RowRange(10.0, 65_000.0), WeighBits(48, 8, 40, 12))

    async def two_relu() -> Shared:
        rows, bits = RowRange(RELU_EPS, 65_000.0), WeighBits(48, 8, 40, 12)
        return await weigh(p, await relus(p, scores, KEYS, 48), value, rows, bits, cells.reciprocal, RELU_EPS)

    async def looked_up() -> None:
        """A table of 100 constant rows of 24 constant words, in the places of constant indices of 7 and 2 bits."""
        party = p.source.party
        bits = torch.full((100 * 24 * 2,), 0 if party else 0x5A, dtype=torch.uint8)
        (opened,) = await p.open_bits(Bits(bits, table_shape(100, 24, 16), party))
        words = torch.full((3, 24), 0 if party else 0x5A5A, dtype=torch.int16)
        places = x.reduce(7).take(slice(LEAST))
        await look_up(p, places, Table.of(opened, 24, 16, 7))
        await look_up_short(p, places.reduce(2), Weight.of(await p.open_one(Shared(words, 16, 7, party))))

    async def watched() -> None:
        """An audit, with what it opens itself: rows of one token."""
        watching = Audit(torch.ones(LEAST, 1))
        q = replace(p, audit=watching)
        await layer_norm(q, centred.reshape(LEAST, 1, 8), 1e-5, RowRange(0.8, 17.0), 14, 12)
        operand = await q.open_one(wide.take(slice(LEAST)).reduce(32).reshape(LEAST, 1, 1, 1))
        watching.norms(q, 1000.0, operand)
        watching.tell(q)
        argument = await q.open_one((-wide).reduce(25).take(slice(LEAST)).reshape(LEAST, 1))
        exponential(q, argument, 16, torch.tensor(1))
        await clamped_exponential(q, argument, 8, 16, torch.tensor(1))
        await watching.verdict(q)

    await parallel(
        watched(),
        looked_up(),
        cells.rsqrt(p, wide.take(slice(LEAST)), RowRange(0.5, 17.0)),
        cells.reciprocal(p, wide.take(slice(LEAST)), RowRange(0.0174, 512.0)),
        gelu(p, x, 40),
        quad(p, x, 40),
        pi_gelu(p, x, 64),
        pi_gelu_polynomial(p, x, 64),
        tanh(p, x, 48),
        pi_lt(p, wide, -wide),
        one_hot_argmax(p, centred),
        pi_mul(p, wide, wide),
        exact(),
        two_quad(),
        two_relu(),
        layer_norm(p, centred, 1e-5, RowRange(0.8, 17.0), 14, 12),
    )


@cache
def run_on_constants() -> Run:
    """All inputs constant: 0.75 everywhere, rows of LayerNorm of one value and its negative."""
    session = Session(11)

    def constant(shape: tuple[int, ...], value: float, bits: int, frac: int) -> list[Shared]:
        return session.share(torch.full(shape, value), bits, frac)

    sign = torch.tensor([0.75, -0.75] * 4).expand(2000, 8)
    return session.run(
        everything,
        constant((COUNT,), 0.75, 24, 12),
        constant((200, 1, 12, 12), 0.75, 22, 12),
        constant((200, 1, 12, 2), 0.75, 48, 12),
        session.share(sign, 28, 14),
        constant((COUNT,), 0.75, 64, 16),
    )


def elements(part: Part, value: Tensor) -> Tensor:
    """The words of an array that crossed the wire, in int64; of packed bits every one, also those beyond the last."""
    words = ring.unpack_bits(value, (8 * value.numel(),)) if part.bits == 1 else ring.reduce(value, part.bits)
    return words.to(torch.int64).reshape(-1)


def by_width(values: list[tuple[Part, Tensor]]) -> dict[int, list[Tensor]]:
    """All words that crossed the wire, by ring width."""
    words: dict[int, list[Tensor]] = defaultdict(list)
    for part, value in values:
        words[part.bits].append(elements(part, value))
    return dict(sorted(words.items()))


def sides() -> Iterator[tuple[str, int, Tensor]]:
    """What both servers see, and what server 0 sends, with widths that have enough samples."""
    run = run_on_constants()
    sent = [(part, value) for (part, _), value in zip(run.opened, run.sent, strict=True)]
    for side, values in (("opened", run.opened), ("sent", sent)):
        for bits, words in by_width(values).items():
            yield side, bits, torch.cat(words)


def test_the_programs_meet_many_widths() -> None:
    widths = by_width(run_on_constants().opened)
    assert {1, 2, 7, 8, 9, 16, 17, 19, 20, 21, 22, 24, 26, 27, 28, 29, 32, 36, 39, 40, 48, 64} <= widths.keys()
    assert all(sum(w.numel() for w in words) >= LEAST for words in widths.values())


@pytest.mark.parametrize("end", ["top", "low", "middle"])
def test_chi_square(end: str) -> None:
    """The highest, lowest and middle bits of every width, up to 6 at a time, in 2^6 categories."""
    for side, bits, words in sides():
        size = min(bits, 6)
        shift = {"top": bits - size, "low": 0, "middle": (bits - size) // 2}[end]
        digits = (words >> shift) & ((1 << size) - 1)
        assert abs(chi_square(digits, 1 << size)) < 5, f"{side}, {bits} bits, {end}"


def test_every_bit_is_balanced_and_independent_of_its_neighbour() -> None:
    for side, bits, words in ((side, bits, words[:20_000]) for side, bits, words in sides()):
        set_bits = [((words >> place) & 1).to(torch.float64) - 0.5 for place in range(bits)]
        bound = 5 / (2 * sqrt(words.numel()))
        for place, bit in enumerate(set_bits):
            assert abs(float(bit.mean())) < bound, f"{side}, {bits} bits, bit {place}"
        for place in range(bits - 1):
            product = float((set_bits[place] * set_bits[place + 1]).mean())
            assert abs(product) < bound / 2, f"{side}, {bits} bits, bits {place} and {place + 1}"


def test_nothing_stands_above_the_ring_on_the_wire() -> None:
    """The packed bytes of what is sent: no bit above k, whatever the container."""
    run = run_on_constants()
    for (part, _), value in zip(run.opened, run.sent, strict=True):
        if part.bits > 1 and part.bits % 8:
            raw = ring.pack(value, part.bits).reshape(-1, ceil(part.bits / 8))
            assert not (raw[:, -1] >> (part.bits % 8)).any(), part


def test_elements_are_independent_of_each_other() -> None:
    """Neighbouring elements of one opening, as numbers in [-1/2, 1/2): no correlation."""
    for side, bits, words in sides():
        real = words.to(torch.float64) / 2.0**bits
        real = real - real.floor() - 0.5
        for lag in (1, 2, 8):
            product = float((real[:-lag] * real[lag:]).mean()) * 12
            bound = 5 / sqrt(words.numel() - lag) + 13 * 2.0 ** -(2 * bits)
            assert abs(product) < bound * (3 if bits == 1 else 1), f"{side}, {bits} bits, lag {lag}"


def test_wide_words_never_repeat() -> None:
    """64-bit words of one run, opened or sent: all different."""
    for side, bits, words in sides():
        if bits == 64:
            assert len(set(words.tolist())) == words.numel(), side


@pytest.mark.parametrize(("bits", "frac", "scale"), [(24, 12, 8.0), (28, 14, 3.0), (64, 16, 1000.0)])
def test_openings_are_uncorrelated_with_the_secret(bits: int, frac: int, scale: float) -> None:
    """Varying secrets now: the opened word, its top bit and what either server sends, against x, |x| and sign x."""
    session = Session(12)
    x = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 * scale - scale
    shared = session.share(x, bits, frac)

    async def build(p: Party, x: Shared) -> Shared:
        return (await p.open_one(x)).shared()

    run = session.run(build, shared)
    for words in (run.opened[0][1], run.sent[0]):
        word = ring.signed(words, bits).to(torch.float64)
        for seen in (word, word.sign(), (word * 2.0 ** (6 - bits)).frac()):
            for secret in (x, x.abs(), x.sign()):
                correlation = np.corrcoef(seen.numpy(), secret.numpy())[0, 1]
                assert abs(correlation) < 5 / sqrt(x.numel())


def test_two_secrets_look_alike() -> None:
    """Openings of 0 and of the largest value, same width, other masks: one distribution, by a two-sample chi-square."""
    session = Session(13)
    seen = []
    for value in (0.0, 1000.0):

        async def build(p: Party, x: Shared) -> Shared:
            return await gelu(p, x, 40)

        run = session.run(build, session.share(torch.full((20_000,), value), 24, 12))
        seen.append([(elements(part, value) >> max(part.bits - 6, 0)) & 63 for part, value in run.opened])
    for first, second in zip(*seen, strict=True):
        a, b = (torch.bincount(digits.reshape(-1), minlength=64).to(torch.float64) for digits in (first, second))
        used = (a + b) > 0
        statistic = float(((a - b)[used] ** 2 / (a + b)[used]).sum())
        free = int(used.sum()) - 1
        assert statistic < free + 5 * sqrt(2 * free) + 10


def test_the_statistics_can_fail() -> None:
    """A mask one bit short of the ring, and a carry above it, are both noticed."""
    generator = torch.Generator().manual_seed(2)
    uniform = torch.randint(0, 2**20, (20_000,), generator=generator)
    assert abs(chi_square(uniform >> 14, 64)) < 5
    short = 1000 + torch.randint(0, 2**19, (20_000,), generator=generator)
    assert chi_square(short >> 14, 64) > 50
    carried = (uniform + torch.randint(0, 2**20, (20_000,), generator=generator)) >> 15  # 21 bits of a 20-bit ring
    assert chi_square(carried, 64) > 20
