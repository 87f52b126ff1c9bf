"""Packing at every level against numpy: odd counts, words with dirty upper bits, sums and differences; what is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import library, packing
from mpcnet.arrays.native.packing import Bytes
from mpcnet.arrays.shapes import ShapeOnly

BITS = (2, 7, 8, 9, 12, 16, 17, 22, 24, 25, 28, 32, 33, 40, 41, 48, 52, 56, 63, 64)
COUNTS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 21, 22, 127, 129, 70_000)  # the last is more than a thread takes at a time

pytestmark = pytest.mark.skipif(library.load() is None, reason="the kernels were not built")
at_every_level = pytest.mark.parametrize("level", library.levels())


def words(count: int, bits: int, seed: int) -> Tensor:
    """Random words with arbitrary bits above the ring, the first few of them extreme."""
    x = torch.randint(-(2**63), 2**63 - 1, (count,), generator=torch.Generator().manual_seed(seed))
    extreme = torch.tensor([-1, 0, -(2**63), 2**63 - 1, (1 << bits - 1) - 1, -(1 << bits - 1)])
    x[: min(count, 6)] = extreme[: min(count, 6)]
    return ring.fit(x, bits)


def wire(x: Tensor, bits: int) -> bytes:
    """The wire form, from the definition."""
    wide = (x.to(torch.int64) & ((1 << bits) - 1 if bits < 64 else -1)).numpy()
    return np.ascontiguousarray(wide, "<i8").view(np.uint8).reshape(-1, 8)[:, : (bits + 7) // 8].tobytes()


def unaligned(raw: bytes) -> Bytes:
    """Bytes that begin at an odd address and end where their memory does."""
    return np.frombuffer(b"." + raw, np.uint8)[1:]


@at_every_level
@pytest.mark.parametrize("bits", BITS)
def test_pack(bits: int, level: str) -> None:
    for count in COUNTS:
        x, y = words(count, bits, count), words(count, bits, count + 1)
        assert packing.pack(x, bits, level).tobytes() == wire(x, bits)
        assert packing.pack_difference(x, y, bits, level).tobytes() == wire(x - y, bits)


@at_every_level
@pytest.mark.parametrize("bits", BITS)
def test_unpack(bits: int, level: str) -> None:
    for count in COUNTS:
        x, y = words(count, bits, count), words(count, bits, count + 1)
        got = packing.unpack(unaligned(wire(x, bits)), [count], bits, level)
        assert got.dtype == ring.dtype(bits)
        assert torch.equal(got, ring.reduce(x, bits))
        opened = packing.unpack_sum(unaligned(wire(x, bits)), y, bits, level)
        assert torch.equal(opened, ring.reduce(x + y, bits))


@at_every_level
def test_no_carry_reaches_the_wire(level: str) -> None:
    """A sum of two 12-bit words has 13 bits, of which the last would tell about its terms."""
    full = torch.full((100,), 4095, dtype=torch.int16)
    assert set(packing.pack(full + 1, 12, level).tolist()) == {0}
    assert set(packing.pack_difference(full - 4095, torch.ones_like(full), 12, level)[1::2].tolist()) == {15}
    wide = torch.full((100,), (1 << 45) - 1)
    assert set(packing.pack(wide + 1, 45, level).tolist()) == {0}


@at_every_level
@pytest.mark.parametrize("bits", [24, 48])
def test_shapes_and_layouts(bits: int, level: str) -> None:
    x = words(60, bits, 1).reshape(3, 4, 5)
    assert packing.pack(x.transpose(0, 2), bits, level).tobytes() == wire(x.transpose(0, 2), bits)
    row = x[:1].expand(3, 4, 5)
    assert packing.pack_difference(row, x, bits, level).tobytes() == wire(row - x, bits)
    opened = packing.unpack_sum(np.frombuffer(wire(x, bits), np.uint8), row, bits, level)
    assert torch.equal(opened, ring.reduce(x + row, bits))


def test_threads_share_the_work() -> None:
    x, y = words(1_000_003, 48, 1), words(1_000_003, 48, 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        raw = packing.pack_difference(x, y, 48)
        assert raw.tobytes() == wire(x - y, 48)
        assert torch.equal(packing.unpack_sum(raw, y, 48), ring.reduce(x, 48))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("x", "y", "bits"),
    [
        (torch.zeros(3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), 48),
        (torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int32), 48),
        (torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), 32),
        (torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.int32), 48),
        (torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64, device="meta"), 48),
        (torch.zeros(3, dtype=torch.int64), ShapeOnly((3,), torch.int64), 48),
    ],
)
def test_wrong_tensors_are_refused(x: Tensor, y: Tensor, bits: int) -> None:
    with pytest.raises(ValueError, match=r"want torch\.int"):
        packing.pack_difference(x, y, bits)


@pytest.mark.parametrize(
    "raw", [np.zeros(17, np.uint8), np.zeros(19, np.uint8), np.zeros(36, np.uint8)[::2], np.zeros(18, np.int8)]
)
def test_wrong_bytes_are_refused(raw: Bytes) -> None:
    x = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="want 18 bytes for 48 bits"):
        packing.unpack(raw, [3], 48)
    with pytest.raises(ValueError, match="want 18 bytes for 48 bits"):
        packing.unpack_sum(raw, x, 48)
