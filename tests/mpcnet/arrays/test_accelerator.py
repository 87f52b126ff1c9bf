"""Products by planes of bytes against integers, on the processor and on a GPU where there is one; and what is refused."""

import gc

import numpy as np
import pytest
import torch
from torch import Tensor

from mpcnet.arrays import accelerator, ring
from mpcnet.arrays.accelerator import Accelerator
from mpcnet.arrays.native.matmul import Packed
from mpcnet.errors import LocalBusyError, LocalConfigError
from mpcnet.protocols.arith import linear
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Masked, Weight
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.randomness.source import Secret, ServerSource

BITS = (9, 16, 24, 32, 33, 40, 48, 52, 64)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def gpu(request: pytest.FixtureRequest) -> Accelerator:
    return Accelerator(torch.device(request.param))


def words(shape: tuple[int, ...], bits: int, seed: int) -> Tensor:
    """Random words with arbitrary bits above the ring, the first few of them extreme."""
    x = torch.randint(-(2**63), 2**63 - 1, shape, generator=torch.Generator().manual_seed(seed))
    extreme = torch.tensor([-1, 0, -(2**63), 2**63 - 1, (1 << bits - 1) - 1, -(1 << bits - 1)])
    x.view(-1)[:6] = extreme
    return ring.fit(x, bits)


def exact(a: Tensor, b: Packed, bits: int) -> Tensor:
    """The product by numpy, whose integers wrap, in 64 bits."""
    return torch.from_numpy(np.matmul(a.to(torch.int64).numpy(), ring.widen(b, bits).to(torch.int64).numpy()))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("rows", "depth", "columns"), [((17,), 8, 1), ((2, 3, 40), 72, 49), ((128,), 264, 200)])
def test_products_are_exact(gpu: Accelerator, bits: int, rows: tuple[int, ...], depth: int, columns: int) -> None:
    a, b = words((*rows, depth), bits, 1), words((*rows, depth), bits, 2)
    v, w = (ring.narrow(words((depth, columns), bits, seed), bits) for seed in (3, 4))
    c = words((*rows, columns), bits, 5)
    terms = ((1, a, v), (-1, b, w))
    assert gpu.takes(terms, bits)
    got = gpu.combine(terms, c, bits)
    want = c.to(torch.int64) + exact(a, v, bits) - exact(b, w, bits)
    assert got.dtype == ring.dtype(bits) and got.device.type == "cpu"
    assert torch.equal(ring.reduce(got, bits), ring.reduce(want, bits))
    alone = gpu.combine(terms[1:], None, bits)
    assert torch.equal(ring.reduce(alone, bits), ring.reduce(-exact(b, w, bits), bits))


@pytest.mark.parametrize("word", [-1, 1 << 47, (1 << 47) - 1, 0x808080808080, 0x7F7F7F7F7F7F])
def test_all_words_extreme(gpu: Accelerator, word: int) -> None:
    """The largest sums: as deep as it takes, of one word."""
    depth = accelerator.MOST_DEPTH // 6 // 8 * 8
    a, b = torch.full((17, depth), word), ring.narrow(torch.full((depth, 3), word), 48)
    assert gpu.takes(((1, a, b),), 48)
    got = gpu.combine(((1, a, b),), None, 48)
    assert torch.equal(ring.reduce(got, 48), torch.full((17, 3), depth * word * word % 2**48))


def test_what_it_leaves_to_the_processor(gpu: Accelerator) -> None:
    a = words((20, 72), 48, 1)
    weight = ring.narrow(words((72, 50), 48, 2), 48)
    assert gpu.takes(((1, a, weight),), 48)
    deep = accelerator.MOST_DEPTH // 6 // 8 * 8 + 8
    assert not gpu.takes(((1, a, words((72, 50), 48, 2)),), 48)  # no weight
    assert not gpu.takes(((1, a[:16], weight),), 48)  # few rows
    assert not gpu.takes(((1, a[:, :71], ring.narrow(words((71, 50), 48, 2), 48)),), 48)
    assert not gpu.takes(((1, words((17, deep), 48, 1), ring.narrow(words((deep, 3), 48, 2), 48)),), 48)
    assert not gpu.takes(((1, words((3, 20, 72), 48, 1), ring.narrow(words((3, 72, 50), 48, 2), 48)),), 48)


def test_planes_are_made_once_and_go_with_their_weight(gpu: Accelerator) -> None:
    a, weight = words((20, 72), 48, 1), ring.narrow(words((72, 50), 48, 2), 48)
    gpu.combine(((1, a, weight),), None, 48)
    made = gpu._planes[weight.raw]
    gpu.combine(((1, a, Packed(weight.raw)),), None, 48)
    assert gpu._planes[weight.raw] is made
    del weight, made
    gc.collect()
    assert not len(gpu._planes)


def test_a_device_without_room(monkeypatch: pytest.MonkeyPatch, gpu: Accelerator) -> None:
    def full(a: Tensor, b: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(accelerator, "_multiply", full)
    with pytest.raises(LocalBusyError, match=f'device {gpu.device}: no room .* or device = "cpu"'):
        gpu.combine(((1, words((20, 72), 48, 1), ring.narrow(words((72, 50), 48, 2), 48)),), None, 48)


def test_a_party_uses_it(gpu: Accelerator) -> None:
    """For weights, opened and masked, of which it keeps the planes; other products are the processor's."""
    a, weight = words((20, 72), 48, 1), ring.narrow(words((72, 50), 48, 2), 48)
    opened = Masked(a, Secret(48, words((20, 72), 48, 3)), 0, 0)
    standing = Weight(weight.raw, Secret(48, ring.narrow(words((72, 50), 48, 4), 48).raw), 0)
    streams = [[Keystream(bytes(32), Domain(b"", 0, of), Guard()) for of in ("masks", "pair")] for _ in range(2)]
    source = [ServerSource(0, *both, Hashes.of(b"", 0)) for both in streams]
    here, there = (Party(s, combine=c) for s, c in zip(source, (ring.combine, gpu.combine), strict=True))
    want, got = (linear(p, opened, standing).value for p in (here, there))
    assert torch.equal(ring.reduce(got, 48), ring.reduce(want, 48))
    assert len(gpu._planes) == 2
    plain = words((72, 50), 48, 5)
    assert torch.equal(gpu.combine(((1, a, plain),), None, 48), ring.matmul(a, plain, 48)) and len(gpu._planes) == 2


@pytest.mark.parametrize("name", ["tpu", "", "cuda:", "cuda:x", "cuda:-1", "CUDA"])
def test_devices_that_are_none(name: str) -> None:
    with pytest.raises(LocalConfigError, match="want cpu, cuda or cuda:N, got"):
        accelerator.on(name)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(LocalConfigError, match=r'want cuda:99, got \d+ NVIDIA GPUs .* set device = "cpu"'):
        accelerator.on("cuda:99")


def test_the_processor_is_no_accelerator() -> None:
    assert accelerator.on("cpu") is ring.combine and accelerator.describe("cpu") == "cpu"
