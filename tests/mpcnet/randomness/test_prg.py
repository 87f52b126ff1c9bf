"""Keystreams: the construction by vectors, one way only, and never opened twice."""

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import few
from hypothesis import given
from hypothesis import strategies as st

from mpcnet.arrays import ring
from mpcnet.arrays.native import keystream as native_keystream
from mpcnet.errors import LocalStateError
from mpcnet.randomness.prg import Domain, Guard, Keystream

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "prg.json").read_text())
SEED = bytes(range(32))


def stream(purpose: str = "mask", number: int = 0, seed: bytes = SEED) -> Keystream:
    return Keystream(seed, Domain(b"session", number, purpose), Guard())


@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "library"])
def test_vectors(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(native_keystream, "usable", lambda: False)
    for row in VECTORS["positive"]:
        domain = Domain(bytes.fromhex(row["domain"]["session"]), row["domain"]["stream"], row["domain"]["purpose"])
        assert domain.encode().hex() == row["encoded"]
        keystream = Keystream(bytes.fromhex(row["seed"]), domain, Guard())
        for draw in row["draws"]:
            bits, shape = draw["bits"], draw["shape"]
            got = keystream.words(shape, bits)
            assert (tuple(got.shape), got.dtype) == (ring.stored_shape(shape, bits), ring.dtype(bits))
            got = ring.unpack_bits(got, shape) if bits == 1 else got
            assert [int(value) % 2**bits for value in got.reshape(-1)] == [int(w, 16) for w in draw["words"]], row


@pytest.mark.parametrize("row", VECTORS["negative"], ids=lambda row: row["reason"])
def test_refused_vectors(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=row["reason"]):
        Keystream(bytes.fromhex(row["seed"]), Domain(b"s", 0, "mask"), Guard()).words([1], row["bits"])


@few
@given(st.lists(st.integers(0, 3000), max_size=6))
def test_draws_are_consecutive(counts: list[int]) -> None:
    whole, pieces = stream().raw(sum(counts)), stream()
    assert b"".join(pieces.raw(count).tobytes() for count in counts) == whole.tobytes()


def test_a_draw_longer_than_the_block_of_zeros() -> None:
    size = (1 << 20) + 37
    whole, pieces = stream().raw(2 * size), stream()
    assert whole[:size].tobytes() + whole[size:].tobytes() == pieces.raw(size).tobytes() + pieces.raw(size).tobytes()


def test_opening_a_domain_twice_is_refused() -> None:
    guard, domain = Guard(), Domain(b"session", 3, "masks of server 0")
    Keystream(SEED, domain, guard)
    with pytest.raises(LocalStateError, match="'masks of server 0' of stream 3: opened twice"):
        Keystream(SEED, domain, guard)
    with pytest.raises(LocalStateError):
        Keystream(SEED, Domain(b"session", 3, "masks of server 0"), guard)


@pytest.mark.parametrize(
    ("seed", "domain"),
    [
        (SEED[::-1], Domain(b"session", 3, "mask")),
        (SEED, Domain(b"sessioo", 3, "mask")),
        (SEED, Domain(b"session", 4, "mask")),
        (SEED, Domain(b"session", 3, "task")),
        (SEED, Domain(b"sessio", 3, "nmask")),
    ],
)
def test_other_seeds_and_domains_give_other_words(seed: bytes, domain: Domain) -> None:
    guard = Guard()
    first = Keystream(SEED, Domain(b"session", 3, "mask"), guard).raw(64)
    second = Keystream(seed, domain, guard).raw(64)
    assert not set(first.tobytes()[i : i + 8] for i in range(0, 64, 8)) & {
        second.tobytes()[i : i + 8] for i in range(0, 64, 8)
    }


@few
@given(st.binary(max_size=6), st.text(max_size=6), st.binary(max_size=6), st.text(max_size=6))
def test_domains_are_encoded_unambiguously(a: bytes, b: str, c: bytes, d: str) -> None:
    assert (Domain(a, 1, b).encode() == Domain(c, 1, d).encode()) == ((a, b) == (c, d))


@pytest.mark.parametrize("bits", [1, 5, 8, 12, 16, 20, 32, 40, 64])
def test_words_are_uniform(bits: int) -> None:
    """Every bit of the ring is balanced to 5 standard deviations."""
    count = 40_000
    words = stream(number=bits).words([count], bits)
    words = (ring.unpack_bits(words, [count]) if bits == 1 else words).to(torch.int64)
    ones = [int(((words >> place) & 1).sum()) for place in range(bits)]
    assert max(abs(n - count / 2) for n in ones) < 5 * (count / 4) ** 0.5


def test_empty_and_scalar_draws() -> None:
    keystream = stream()
    for shape in [[0], [3, 0], []]:
        assert keystream.words(shape, 20).numel() == prod(shape)
