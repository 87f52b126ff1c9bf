"""Kernels of point functions: the same words as without them, for any rows and threads; and what is refused."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from mpcnet.arrays.native import fss as native
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.protocols import cells
from mpcnet.protocols.share import Masked
from mpcnet.randomness import fss
from mpcnet.randomness.source import Secret

pytestmark = pytest.mark.skipif(not native.usable(), reason="no kernels, or no AES instructions")


HASHES = fss.Hashes.of(b"session", 1)


def schedule() -> Tensor:
    assert HASHES.schedule is not None
    return HASHES.schedule


def random_words(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape, generator=torch.Generator().manual_seed(seed))


def case(shape: tuple[int, ...], count: int) -> tuple[cells.Cells, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Cells, places, payloads and both servers' seeds; places have arbitrary bits above the ring."""
    used = cells.Cells(0, count)
    return (
        used,
        random_words(*shape),
        random_words(*shape, count, 4, seed=1),
        (random_words(*shape, 2, seed=2), random_words(*shape, 2, seed=3)),
    )


def without_kernels(monkeypatch: pytest.MonkeyPatch, function: Any, *arguments: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(native, "usable", lambda *_: False)
        return function(*arguments)


@pytest.mark.parametrize("count", [1, 2, 7, 15])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 11), (100,)], ids=str)
def test_the_same_words(count: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    used, place, payload, roots = case(shape, count)
    corrections = fss.generate(place, payload, roots, used.cover, HASHES)
    assert torch.equal(
        corrections, without_kernels(monkeypatch, fss.generate, place, payload, roots, used.cover, HASHES)
    )
    function = cells.Function(cells.INVERSE, Fraction(1 << 12), 20)
    opened = random_words(*shape, seed=4) & ((1 << used.cover.bits) - 1)
    x = Masked(opened, Secret(used.cover.bits, place), used.frac, 0)
    for party in (0, 1):
        key = fss.Key(party, roots[party], corrections, HASHES)
        sums = cells._weighted_sum(key, x, used, function)
        for part, want in zip(
            sums, without_kernels(monkeypatch, cells._weighted_sum, key, x, used, function), strict=True
        ):
            assert part.shape == shape
            assert torch.equal(part, want)


def test_threads_share_the_work() -> None:
    used, place, payload, roots = case((300,), 3)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            corrections = fss.generate(place, payload, roots, used.cover, HASHES)
            table = cells._table(used, cells.Function(cells.ROOT, Fraction(1), 20))
            opened = place & ((1 << used.cover.bits) - 1)
            total = native.weighted_sum(schedule(), 1, roots[1], corrections, opened, used.cover.low, table, 20)
            results.append((corrections, total))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_what_the_kernels_cannot_work_on() -> None:
    assert not native.usable(ShapeOnly((3,), torch.int64))  # type: ignore[arg-type]
    keys, words = schedule(), torch.zeros(2, dtype=torch.int64)
    roots, payload = torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 3, 4, dtype=torch.int64)
    table, corrections = torch.zeros(3, 24, 4, dtype=torch.int64), torch.zeros(2, 30, dtype=torch.int64)
    native.generate(keys, words, payload, (roots, roots))
    native.weighted_sum(keys, 0, roots, corrections, words, 13, table, 20)
    with pytest.raises(ValueError, match=r"keys: want torch\.uint8"):
        native.schedule(keys[:, 0])  # rows of round keys are keys
        native.schedule(keys[:3, 0])
    with pytest.raises(ValueError, match=r"keys: want torch\.uint8"):
        native.generate(keys[:3], words, payload, (roots, roots))
    with pytest.raises(ValueError, match="places: want"):
        native.generate(keys, words[:1], payload, (roots, roots))
    with pytest.raises(ValueError, match="roots: want"):
        native.generate(keys, words, payload, (roots, roots[:1]))
    with pytest.raises(ValueError, match="payload: want"):
        native.generate(keys, words, payload[..., :3], (roots, roots))
    for wrong in (
        (roots[:1], corrections, table),
        (roots, corrections[:, 1:], table),
        (roots, corrections, table[:, 1:]),
    ):
        with pytest.raises(ValueError, match=r"want torch\.int64"):
            native.weighted_sum(keys, 0, wrong[0], wrong[1], words, 13, wrong[2], 20)
    for low, frac in ((0, 20), (55, 20), (13, 0), (13, 33)):
        with pytest.raises(ValueError, match="beyond these kernels"):
            native.weighted_sum(keys, 0, roots, corrections, words, low, table, frac)
