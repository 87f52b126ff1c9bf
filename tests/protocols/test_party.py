"""The context's own operations: exact rescaling, openings, fresh zeros, public constants."""

import math

import pytest
import torch
from checks import Input, check_corruption, check_cost, few, given_words, numbers, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.randomness.source import ServerSource
from mpcnet.rounds import Exchange, advance

CHUNK = 4_000_000  # elements: 32 MB a tensor
SOAK = 25 * CHUNK  # more than the elements that BERT-base rescales for one sentence


def server(party: int, stream: int = 0) -> Party:
    masks, pair = (Keystream(bytes([of]) * 32, Domain(b"rescale", stream, "t"), Guard()) for of in (party, 2))
    return Party(ServerSource(party, masks, pair, Hashes.of(b"rescale", stream)))


def rescaled(first: Tensor, second: Tensor, bits: int, count: int) -> Tensor:
    """Both servers rescale their shares; the signed integer they hold together afterwards."""
    shares = [server(i).rescale(Shared(x, bits, count, i), 0) for i, x in enumerate((first, second))]
    assert {(x.bits, x.frac) for x in shares} == {(bits - count, 0)}
    return ring.signed(shares[0].value + shares[1].value, bits - count)


@pytest.mark.parametrize(("bits", "count"), [(6, 1), (6, 3), (8, 2), (8, 7), (9, 4)])
def test_rescale_exhaustively(bits: int, count: int) -> None:
    """Every pair of shares: floor, or one more; never 2^(k - t) away."""
    size = 1 << bits
    first = torch.arange(size).repeat_interleave(size)
    second = torch.arange(size).repeat(size)
    x = ring.signed(first + second, bits)
    got = rescaled(ring.fit(first, bits), ring.fit(second, bits), bits, count)
    error = got * (1 << count) - x
    wrapped = ring.signed(error, bits)  # at the very ends of the ring +-1 ulp is the ring's own wrap
    assert int(wrapped.abs().max()) <= 1 << count
    inside = x.abs() < size // 2 - (1 << count)
    assert torch.equal(error[inside], wrapped[inside])


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "count"), [(64, 12), (64, 40), (40, 16), (24, 12)])
def test_no_catastrophic_error_in_ten_to_the_eighth_elements(bits: int, count: int) -> None:
    """Random shares of values over the whole range; 1 ulp at most in each, and no bias but the known 2^-count ulp.

    CrypTen's truncation would fail here in every second element, and by 2^(k - t) each time.
    """
    share_of_soak = SOAK // 4
    streams = [Keystream(bytes([i]) * 32, Domain(b"soak", bits * 100 + count, "t"), Guard()) for i in (0, 1)]
    total, largest = 0.0, 0
    for start in range(0, share_of_soak, CHUNK):
        shape = [min(CHUNK, share_of_soak - start)]
        first, second = (stream.words(shape, bits) for stream in streams)
        # A value on the whole range but its outermost ulp: the top bits of the second share are moved inside.
        x = ring.signed(first + second, bits)
        limit = (1 << (bits - 1)) - (1 << count)
        second = second - ring.fit(
            torch.where(x >= limit, 1 << count, 0) - torch.where(x < -limit, 1 << count, 0), bits
        )
        x = ring.signed(first + second, bits)
        error = (rescaled(first, second, bits, count) << count) - x
        largest = max(largest, int(error.max()), -int(error.min()))
        total += float(error.to(torch.float64).sum()) * 2.0**-count
    assert largest <= 1 << count
    deviation = math.sqrt(1 / 6 / share_of_soak)  # the error is triangular in (-1, 1): variance 1/6
    assert abs(total / share_of_soak - 2.0**-count) < 5 * deviation


@few
@given(st.integers(2, 64), st.data())
def test_rescale_of_any_width(bits: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, bits - 1))
    first, second = (data.draw(st.integers(0, 2**bits - 1)) for _ in range(2))
    low = (1 << count) - 1
    words = [ring.fit(torch.tensor([v - 2**64 if v >= 2**63 else v]), bits) for v in (first, second)]
    got = rescaled(words[0], words[1], bits, count)
    want = ((first >> count) + (second >> count) + 1) % 2 ** (bits - count)
    assert int(got) % 2 ** (bits - count) == want
    # The exact error of this formula is 1 - (low bits of both) / 2^count: within one ulp of the value.
    assert -(1 << count) < (1 << count) - ((first & low) + (second & low)) <= 1 << count


@few
@given(st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=30), st.integers(0, 20), st.integers(0, 2**31))
def test_rescale_against_the_oracle(words: list[int], frac: int, seed: int) -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return p.rescale(x, frac)

    x = given_words(words, 48, 20)
    done = outcome(build, x, seed=seed)
    ulp = 2.0**-frac if frac < 20 else 0.0
    assert (done.value - x.x).abs().max() <= ulp
    assert (done.oracle - x.x).abs().max() <= ulp / 2
    check_cost(done, rounds=0, sent=0, dealt=0)


def test_rescale_to_more_fraction_bits_is_exact() -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return p.rescale(x, 16)

    x = uniform((50,), -7, 7, 32, 12)
    done = outcome(build, x)
    assert torch.equal(done.value, x.x)
    assert done.run.results[0].bits == 32


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), ()])
def test_rescale_of_empty_and_scalar(shape: tuple[int, ...]) -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return p.rescale(x, 4)

    assert outcome(build, Input(torch.zeros(shape, dtype=torch.float64), 32, 12)).value.shape == shape


def test_rescale_refuses_to_drop_the_whole_ring() -> None:
    with pytest.raises(ValueError, match="cannot drop 12 of 12 bits"):
        server(0).rescale(Shared(torch.zeros(1, dtype=torch.int16), 12, 12, 0), 0)


async def reopened(p: Party, x: Shared) -> Shared:
    return (await p.open_one(x)).shared()


@few
@given(st.integers(2, 64), st.lists(st.integers(0, 2**62), max_size=20), st.integers(0, 2**31))
def test_opening_keeps_the_value(bits: int, words: list[int], seed: int) -> None:
    x = given_words([w % 2 ** min(bits, 50) for w in words], bits, 0)
    done = outcome(reopened, x, seed=seed)
    assert torch.equal(done.value, done.oracle)
    check_cost(done, rounds=1, sent=(bits + 7) // 8 * len(words), dealt=0)


def bits_of(x: Shared) -> Bits:
    return Bits.of(x.value & 1, x.party)


@few
@given(st.lists(st.integers(0, 1), max_size=20), st.integers(0, 2**31))
def test_opened_bits_are_the_bits_under_their_mask(words: list[int], seed: int) -> None:
    async def build(p: Party, x: Shared) -> Shared:
        (opened,) = await p.open_bits(bits_of(x))
        assert opened.shape == x.shape
        mask = Bits(opened.mask.share, opened.shape, opened.party)
        public = Bits(opened.opened, opened.shape, opened.party)
        return numbers(public ^ mask if opened.party == 0 else mask)

    x = given_words(words, 8, 0)
    done = outcome(build, x, seed=seed)
    assert torch.equal(done.value % 2, x.x)
    assert torch.equal(done.oracle % 2, x.x)
    check_cost(done, rounds=1, sent=(len(words) + 7) // 8, dealt=0)


def test_sums_and_complements_of_bits() -> None:
    async def build(p: Party, x: Shared, y: Shared) -> Shared:
        a, b = bits_of(x), bits_of(y)
        return numbers(a ^ b, a.flip(), a.flip() ^ b.flip())

    x, y = given_words([0, 0, 1, 1] * 3, 8, 0), given_words([0, 1, 0, 1] * 3, 8, 0)
    done = outcome(build, x, y)
    different = (x.x != y.x).to(torch.float64)
    assert torch.equal(done.value % 2, torch.stack([different, 1 - x.x, different]))
    check_cost(done, rounds=0, sent=0, dealt=0)


def test_what_is_sent_of_bits_is_masked_to_the_last_bit_of_a_byte() -> None:
    """The bits beyond the last element are sent too, and are as uniform as the others."""
    x = Bits.of(torch.ones(3, dtype=torch.uint8), 0)
    step = advance(server(0).open_bits(*[x] * 200), None)
    assert isinstance(step, Exchange)
    source = server(0).source
    assert all(torch.equal(mine ^ source.mask([3], 1).share, x.packed) for mine in step.mine)
    beyond = torch.cat(step.mine) >> 3
    assert beyond.unique().numel() > 28, "almost all of the 32 patterns of the 5 bits beyond"


def test_a_ring_of_one_bit_is_not_opened_as_a_number() -> None:
    x = Shared(torch.zeros(9, dtype=torch.uint8), 1, 0, 0)
    with pytest.raises(ValueError, match="here: a ring of 1 bit is held packed: open it by open_bits"):
        advance(server(0).at("here").open(x), None)


def test_opening_several_values_takes_one_round() -> None:
    async def build(p: Party, x: Shared, y: Shared) -> Shared:
        a, b = await p.open(x, y)
        return a.shared() + b.shared()

    x, y = uniform((4,), -1, 1, 20, 8), uniform((4,), -1, 1, 20, 8, seed=1)
    done = outcome(build, x, y)
    assert torch.equal(done.value, x.x + y.x)
    check_cost(done, rounds=1, sent=2 * 4 * 3, dealt=0)
    check_corruption(build, x, y)


def test_what_is_sent_is_the_share_under_its_mask() -> None:
    """x_0 + r_0, with r_0 from the keystream and over all of the ring's bits."""
    x = Shared(torch.arange(1000, dtype=torch.int32), 20, 0, 0)
    step = advance(server(0).open(x), None)
    assert isinstance(step, Exchange)
    mask = server(0).source.mask([1000], 20).share
    assert torch.equal(ring.reduce(step.mine[0] - mask, 20), x.value)


def test_zero_hides_how_a_result_was_computed() -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return x + p.zero(x.shape, x.bits, x.frac)

    x = uniform((200,), -1, 1, 40, 16)
    done = outcome(build, x)
    assert torch.equal(done.value, x.x)
    check_cost(done, rounds=0, sent=0, dealt=0)
    session = Session()
    shared = session.share(x.x, 40, 16)
    results = [session.run(build, shared).results[0].value for _ in range(2)]
    assert not (results[0] == results[1]).any()
    assert not (ring.reduce(results[0], 40) == ring.reduce(shared[0].value, 40)).any()


def test_labels_name_places() -> None:
    p = server(0)
    assert p.at("layer0").at("gelu").label == "layer0/gelu"
    assert p.label == ""
