"""Integer kernels: encodings, exact shifts, and a wire form that never carries more than the ring's own bits."""

import json
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import few
from hypothesis import given
from hypothesis import strategies as st

from mpcnet.arrays import ring
from mpcnet.rounds import Part

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "fixed_point.json").read_text())
WIDTHS = st.integers(1, 64)


def words(values: list[int], bits: int, shape: list[int] | None = None) -> torch.Tensor:
    """Python integers to ring words, through an explicit two's complement; single bits eight to a byte."""
    if bits == 1:
        packed = sum((value & 1) << i for i, value in enumerate(values))
        return torch.tensor(list(packed.to_bytes((len(values) + 7) // 8, "little")), dtype=torch.uint8)
    wrapped = [(value + 2**63) % 2**64 - 2**63 for value in values]
    return ring.fit(torch.tensor(wrapped, dtype=torch.int64), bits).reshape(
        shape if shape is not None else [len(values)]
    )


def integers(x: torch.Tensor, bits: int, count: int = 1) -> list[int]:
    """Ring words to Python integers; `count` says how many single bits are meant."""
    if bits == 1:
        return [int(x[i // 8]) >> (i % 8) & 1 for i in range(count)]
    return [int(value) % 2**bits for value in x.reshape(-1)]


@pytest.mark.parametrize(("bits", "size"), [(1, 1), (8, 1), (9, 2), (16, 2), (17, 4), (32, 4), (33, 8), (64, 8)])
def test_storage_is_the_narrowest_that_holds_the_ring(bits: int, size: int) -> None:
    assert ring.dtype(bits).itemsize == size


def test_encode_vectors() -> None:
    for row in VECTORS["encode"]:
        got = ring.encode(torch.tensor(row["real"], dtype=torch.float64), row["frac"], row["bits"])
        assert integers(got, row["bits"]) == [row["word"]], row


def test_rescale_vectors() -> None:
    for row in VECTORS["rescale"]:
        bits, count = row["bits"], row["count"]
        for party, (share, want) in enumerate(zip(row["shares"], row["rescaled"], strict=True)):
            got = ring.shift_right(words([share], bits), bits, count) + (1 - party)
            assert integers(got, bits - count) == [want], row


def test_pack_and_unpack_vectors() -> None:
    for row in VECTORS["pack"]:
        bits, shape = row["bits"], row["shape"]
        raw = ring.pack(words(row["words"], bits, shape), bits)
        assert raw.tobytes().hex() == row["bytes"], row
        back = ring.unpack(np.frombuffer(bytes.fromhex(row["bytes"]), np.uint8).copy(), Part(bits, tuple(shape)))
        assert tuple(back.shape) == ring.stored_shape(shape, bits)
        assert back.dtype == ring.dtype(bits)
        assert integers(back, bits, len(row["words"])) == row["words"], row


@pytest.mark.parametrize("row", VECTORS["negative"], ids=lambda row: f"{row['what']} {row['bits']} {row['reason']}")
def test_refused_vectors(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=row["reason"]):
        if row["what"] == "unpack":
            raw = np.frombuffer(bytes.fromhex(row["bytes"]), np.uint8)
            ring.unpack(raw, Part(row["bits"], tuple(row["shape"]), "x"))
        elif row["what"] == "shift":
            ring.shift_right(torch.zeros(1, dtype=torch.int16), row["bits"], row["count"])
        else:
            ring.unsigned(torch.zeros(1, dtype=torch.int64), row["bits"])


@few
@given(WIDTHS, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_pack_never_carries_a_bit_above_the_ring(bits: int, values: list[int]) -> None:
    """A mask added in a wider container leaks the carry, hence the share: what stands above k must not reach the wire."""
    dirty = words(values, bits)
    clean = words([value % 2**bits for value in values], bits)
    raw = ring.pack(dirty, bits)
    assert raw.tobytes() == ring.pack(clean, bits).tobytes()
    part = Part(bits, (len(values),))
    assert raw.size == part.nbytes
    back = ring.unpack(raw.copy(), part)
    assert integers(back, bits, len(values)) == [value % 2**bits for value in values]
    assert torch.equal(back, ring.reduce(back, bits))
    if values and bits > 1 and bits % 8:
        assert not (raw.reshape(len(values), -1)[:, -1] >> (bits % 8)).any()


@few
@given(WIDTHS, st.integers(-(2**63), 2**63 - 1))
def test_reduced_unsigned_and_signed_agree_with_integers(bits: int, value: int) -> None:
    word = words([value], bits)
    assert integers(ring.reduce(word, bits), bits) == [value % 2**bits]
    want = value % 2**bits
    assert int(ring.signed(word, bits)) == (want - 2**bits if want >= 2 ** (bits - 1) else want)
    if bits < 64:
        assert int(ring.unsigned(word, bits)) == want


@few
@given(st.integers(2, 64), st.data())
def test_shift_ignores_what_stands_above_the_ring(bits: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, bits - 1))
    value = data.draw(st.integers(-(2**63), 2**63 - 1))
    got = ring.shift_right(words([value], bits), bits, count)
    assert got.dtype == ring.dtype(bits - count)
    assert integers(got, bits - count) == [(value % 2**bits) >> count]


@few
@given(st.integers(2, 52), st.data())
def test_decode_inverts_encode(bits: int, data: st.DataObject) -> None:
    frac = data.draw(st.integers(0, 30))
    word = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    x = torch.tensor([word * 2.0**-frac], dtype=torch.float64)
    assert torch.equal(ring.decode(ring.encode(x, frac, bits), frac, bits), x)


@pytest.mark.parametrize("bits", [7, 8, 15, 16, 31, 32, 47, 64])
def test_matrix_product_is_exact_modulo_the_ring(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    a = ring.fit(torch.randint(-(2**63), 2**63 - 1, (3, 5), generator=generator), bits)
    b = ring.fit(torch.randint(-(2**63), 2**63 - 1, (5, 4), generator=generator), bits)
    want = [sum(int(a[i, k]) * int(b[k, j]) for k in range(5)) % 2**bits for i in range(3) for j in range(4)]
    assert integers(ring.matmul(a, b, bits), bits) == want


@few
@given(WIDTHS, st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2))
def test_opened_is_the_canonical_sum(bits: int, values: list[int]) -> None:
    a, b = words(values[:1], bits), words(values[1:], bits)
    opened = ring.add_opened(a, b, bits)
    assert integers(opened, bits) == [sum(values) % 2**bits]
    assert torch.equal(opened, ring.reduce(opened, bits))


def test_unpack_of_an_unaligned_buffer() -> None:
    raw = np.arange(33, dtype=np.uint8)
    got = ring.unpack(raw[1:], Part(64, (4,)))
    assert integers(got, 64) == [int.from_bytes(bytes(raw[1 + 8 * i : 9 + 8 * i]), "little") for i in range(4)]


@few
@given(st.lists(st.integers(0, 1), max_size=40), st.sampled_from([torch.bool, torch.uint8, torch.int32, torch.int64]))
def test_bits_are_packed_eight_to_a_byte(bits: list[int], dtype: torch.dtype) -> None:
    packed = ring.pack_bits(torch.tensor(bits, dtype=dtype))
    assert packed.dtype == torch.uint8
    assert torch.equal(packed, words(bits, 1)), "the bits beyond the last are zero"
    unpacked = ring.unpack_bits(packed, (len(bits),))
    assert (unpacked.dtype, unpacked.tolist()) == (torch.uint8, bits)
    assert torch.equal(
        ring.unpack_bits(packed | words([0] * len(bits) + [1] * (-len(bits) % 8), 1), (len(bits),)), unpacked
    )


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (8,), (3, 5), (2, 3, 7)])
def test_bits_of_every_shape(shape: tuple[int, ...]) -> None:
    bits = (torch.arange(prod(shape)) % 3 == 0).reshape(shape)
    packed = ring.pack_bits(bits)
    assert packed.shape == ring.stored_shape(shape, 1) == (ceil(prod(shape) / 8),)
    assert torch.equal(ring.unpack_bits(packed, shape), bits.to(torch.uint8))
    only = ring.pack_bits(ring.zeros(shape, 8, "meta"))
    assert (only.shape, only.dtype) == (packed.shape, packed.dtype)
    assert ring.unpack_bits(only, shape).shape == shape
    if bits.ndim == 2:
        assert torch.equal(ring.pack_bits(bits.t()), ring.pack_bits(bits.t().contiguous()))


@pytest.mark.parametrize(("count", "shape"), [(1, (9,)), (2, (8,)), (2, (2, 4)), (1, (0,)), (0, ())])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_bytes_that_are_not_those_of_the_bits(count: int, shape: tuple[int, ...], device: str) -> None:
    with pytest.raises(ValueError, match=rf"want \d bytes for bits .*, got \[{count}\]"):
        ring.unpack_bits(ring.zeros((count,), 8, device), shape)


@few
@given(WIDTHS, st.lists(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2), max_size=20))
def test_sums_and_differences(bits: int, pairs: list[tuple[int, int]]) -> None:
    a, b = (words([pair[i] for pair in pairs], bits) for i in (0, 1))
    count = len(pairs)
    assert integers(ring.add(a, b, bits), bits, count) == [(x + y) % 2**bits for x, y in pairs]
    assert integers(ring.subtract(a, b, bits), bits, count) == [(x - y) % 2**bits for x, y in pairs]


@pytest.mark.parametrize("bits", [5, 16, 24, 40, 64])
def test_pack_of_a_view_that_is_not_contiguous(bits: int) -> None:
    x = ring.reduce(torch.arange(12).reshape(3, 4), bits)
    assert ring.pack(x.t(), bits).tobytes() == ring.pack(x.t().contiguous(), bits).tobytes()


def test_a_ring_has_1_to_64_bits() -> None:
    for bits in (0, 65, -1):
        with pytest.raises(ValueError, match="1 to 64 bits"):
            ring.dtype(bits)


def test_zeros() -> None:
    x = ring.zeros([2, 0, 3], 17)
    assert (x.shape, x.dtype) == ((2, 0, 3), torch.int32)
    for device in ("cpu", "meta"):
        bits = ring.zeros([3, 5], 1, device)
        assert (bits.shape, bits.dtype) == ((2,), torch.uint8)


@pytest.mark.parametrize("x", [2.0**-20, 0.0174, 0.3, 0.5, 1.0, 1.0000000000000002, 3.0, 4.0, 7.999, 65_000.0, 2.0**40])
def test_logarithms_are_exact(x: float) -> None:
    floor, ceil = ring.floor_log2(x), ring.ceil_log2(x)
    assert 2.0**floor <= x < 2.0 ** (floor + 1)
    assert 2.0 ** (ceil - 1) < x <= 2.0**ceil
