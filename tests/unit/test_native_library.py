"""The shared object: levels, what may be passed to it, and what is refused before a pointer leaves Python."""

import pytest
import torch
from torch import Tensor

from mpcnet import ring
from mpcnet.errors import LocalStateError
from mpcnet.native import elementwise, library
from mpcnet.shapes import ShapeOnly

SIZES = (0, 1, 7, 8, 9, 127, 129, 70_000)  # the last is more than a thread takes at a time

needs_kernels = pytest.mark.skipif(library.load() is None, reason="the kernels were not built")


def words(count: int, bits: int, seed: int) -> Tensor:
    """Random words, the first few of them extreme; what stands above the ring is arbitrary."""
    x = torch.randint(-(2**63), 2**63 - 1, (count,), generator=torch.Generator().manual_seed(seed))
    extreme = torch.tensor([-1, 0, -(2**63), 2**63 - 1, (1 << bits - 1) - 1, -(1 << bits - 1)])
    x[: min(count, 6)] = extreme[: min(count, 6)]
    return ring.fit(x, bits)


def test_level_in_use() -> None:
    assert library.level() == (library.levels()[-1] if library.levels() else library.FALLBACK)
    assert set(library.levels()) <= set(library.LEVELS)


@needs_kernels
@pytest.mark.parametrize("level", library.levels())
@pytest.mark.parametrize("bits", [2, 7, 8, 12, 16, 24, 32, 40, 48, 63, 64])
def test_sum_at_every_level(bits: int, level: str) -> None:
    for count in SIZES:
        a, b = words(count, bits, count), words(count, bits, count + 1)
        got = elementwise.add(a, b, bits, level)
        assert got.dtype == a.dtype
        assert torch.equal(got, ring.reduce(a + b, bits))


@needs_kernels
def test_threads_share_the_work() -> None:
    a, b = words(1_000_003, 48, 1), words(1_000_003, 48, 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(elementwise.add(a, b, 48), ring.reduce(a + b, 48))
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize(
    ("a", "b", "bits"),
    [
        (torch.zeros(3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), 48),
        (torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int32), 48),
        (torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.int32), 33),
        (torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.int32, device="meta"), 32),
        (torch.zeros(3, dtype=torch.int32), ShapeOnly((3,), torch.int32), 32),
        (torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.int32), 0),
        (torch.zeros(3, dtype=torch.uint8), torch.zeros(3, dtype=torch.uint8), 1),
    ],
)
def test_wrong_operands_are_refused(a: Tensor, b: Tensor, bits: int) -> None:
    with pytest.raises(ValueError, match=r"want torch\.int|does not fit"):
        elementwise.add(a, b, bits)


def test_what_kernels_can_work_on() -> None:
    x = torch.zeros(2)
    assert library.usable(x) == (library.load() is not None)
    assert not library.usable(x, torch.zeros(2, device="meta"))
    assert not library.usable(x, ShapeOnly((2,), torch.float32))  # type: ignore[arg-type]


@needs_kernels
def test_a_level_that_this_processor_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "best", lambda: 0)
    x = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="no avx512ifma"):
        elementwise.add(x, x, 64, "avx512ifma")


@needs_kernels
def test_a_function_that_is_missing() -> None:
    with pytest.raises(LocalStateError, match="no function mpc_nothing; install mpcnet again"):
        library.Kernel("mpc_nothing")(None)


def test_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    library.best.cache_clear()
    monkeypatch.setattr(library, "load", lambda: None)
    try:
        assert (library.level(), library.levels(), library.usable(torch.zeros(1))) == ("torch", (), False)
    finally:
        library.best.cache_clear()
