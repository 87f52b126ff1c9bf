"""The verdict of an audit: 0 or uniform, of one sentence each, in rounds that take place anyway; and its field."""

from math import sqrt

import torch
from audits import SENTENCES, TOKENS, WIDTH, Looked, grow, rows, verdict
from checks import chi_square, few, told, under_audit
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols import audit as A
from mpcnet.protocols.arith import lift
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared


def test_any_single_bit_is_found() -> None:
    """Whatever is flagged before and after it, and wherever it stands."""
    count = 9

    async def build(p: Party, x: Shared) -> None:
        bit = Bits.of(x.value & 1, x.party)
        none = Bits.of(torch.zeros_like(x.value), x.party)
        for turn in range(count):
            only = bit.map(lambda b, turn=turn: b * (torch.arange(count) == turn).reshape(-1, 1))  # type: ignore[misc]
            p.audit.flag(lambda only=only: [only, none])  # type: ignore[misc]

    x = torch.eye(count, dtype=torch.float64).repeat(1, 3)
    assert verdict(build, torch.ones(count, 1), (x, 8, 0))[0] == [1] * count
    assert verdict(build, torch.ones(count, 1), (0 * x, 8, 0))[0] == [0] * count


def test_many_are_as_one() -> None:
    """Any number of bits is found: no two cancel. Every sentence has its own."""
    for seed in range(30):
        chosen = torch.rand(SENTENCES, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed)) < 0.5
        chosen[seed % SENTENCES] = False
        x = torch.where(chosen, 2000.0, 1.0).to(torch.float64)
        found, _ = verdict(grow, torch.ones(SENTENCES, TOKENS), (x, 24, 12), seed=seed)
        assert found == [int(sentence != seed % SENTENCES) for sentence in range(SENTENCES)]


def told_early(turns: int) -> Looked:
    """Grows `turns` values, and tells what was found after each but the last; ends with other rounds."""

    async def build(p: Party, *x: Shared) -> Shared:
        for value in x[:turns]:
            lift(p, await p.open_one(value), 40)
            p.audit.tell(p)
        return (await p.open_one(x[-1])).shared()

    return build


def test_what_was_told_costs_no_round() -> None:
    """The verdict rides in the last opening; told twice, in two; bits found later make a round."""
    keep, good, bad = torch.ones(SENTENCES, TOKENS), rows(1.0, 0, 0), rows(2000.0, 1, 2)
    for turns in (1, 2, 3):
        for which in range(turns + 1):
            inputs = [(bad if which == i else good, 24, 12) for i in range(turns)]
            found, run = verdict(told_early(turns), keep, *inputs, (good, 24, 12))
            assert found == [0, int(which < turns), 0]
            assert run.ledger.total().rounds == turns + 1
            assert run.ledger.operations["audit"].sent_bytes == 5 * SENTENCES * turns

    async def later(p: Party, x: Shared, y: Shared) -> None:
        lift(p, await p.open_one(x), 40)
        p.audit.tell(p)
        lift(p, await p.open_one(y), 40)

    for pair, want in (((good, bad), 1), ((bad, good), 1), ((bad, bad), 1), ((good, good), 0)):
        found, run = verdict(later, keep, *((x, 24, 12) for x in pair))
        assert found == [0, want, 0]
        assert run.ledger.total().rounds == 3


def test_nothing_at_all_is_a_verdict_of_0() -> None:
    async def nothing(p: Party, x: Shared) -> None:
        await p.open_one(x)

    assert verdict(nothing, torch.ones(SENTENCES, TOKENS), (rows(2000.0, 1, 2), 24, 12))[0] == [0, 0, 0]


def test_a_verdict_tells_one_bit_only() -> None:
    """Any share of it, the opened hash, and a verdict that is not 0 are uniform, whatever was found."""
    count = 3000
    program = under_audit(grow, torch.ones(count, 1))
    for found in (0, 1, 3):
        x = torch.ones(count, 1, 4, dtype=torch.float64)
        x[..., :found] = 2000.0
        session = Session(5)
        run = session.run(program, session.share(x, 24, 12))
        (_, first), (_, second), _ = run.results
        assert bool(told(first, second).all()) == bool(found)
        (hashed,) = (value for part, value in run.opened if part.label == "audit")
        seen = [first.packed, second.packed, hashed, *([first.packed ^ second.packed] if found else [])]
        for packed in seen:
            bits = ring.unpack_bits(packed, (count, A.HASH_BITS)).to(torch.int64)
            for start in range(0, A.HASH_BITS - 5, 5):
                digits = (bits[:, start : start + 6] << torch.arange(6)).sum(1)
                assert abs(chi_square(digits, 64)) < 5
            assert ((bits.to(torch.float64).mean(0) - 0.5).abs() < 5 / (2 * sqrt(count))).all()


def slow_times(a: int, b: int) -> int:
    """In GF(2^40), bit by bit."""
    total = 0
    for place in range(A.HASH_BITS):
        if b >> place & 1:
            total ^= a << place
    for place in reversed(range(A.HASH_BITS, 2 * A.HASH_BITS)):
        if total >> place & 1:
            total ^= A.MODULUS << place - A.HASH_BITS
    return total


def elements(values: list[int]) -> Tensor:
    return ring.pack_bits(torch.tensor([[v >> i & 1 for i in range(A.HASH_BITS)] for v in values], dtype=torch.uint8))


@few
@given(st.lists(st.tuples(*[st.integers(0, 2**40 - 1)] * 2), min_size=1, max_size=20))
def test_products_of_the_field(pairs: list[tuple[int, int]]) -> None:
    pairs = [*pairs, (0, 1), (1, 2**40 - 1), (2**39, 2), (2**40 - 1, 2**40 - 1)]
    shape = (len(pairs), A.HASH_BITS)
    got = A._times(elements([a for a, _ in pairs]), elements([b for _, b in pairs]), shape)
    assert torch.equal(got, elements([slow_times(a, b) for a, b in pairs]))


def test_the_modulus_is_irreducible() -> None:
    """Rabin's test: x^(2^40) = x, and x^(2^(40 / q)) - x has no factor in common with it, for q = 2 and 5."""

    def powers(count: int) -> int:
        x = 2
        for _ in range(count):
            x = slow_times(x, x)
        return x

    def common(a: int, b: int) -> int:
        while b:
            while a and a.bit_length() >= b.bit_length():
                a ^= b << a.bit_length() - b.bit_length()
            a, b = b, a
        return a

    assert powers(40) == 2
    assert common(A.MODULUS, powers(20) ^ 2) == 1
    assert common(A.MODULUS, powers(8) ^ 2) == 1
