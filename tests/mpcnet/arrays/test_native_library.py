"""The shared object: which levels there are, what kernels are offered, and what happens without them."""

import ctypes

import pytest
import torch

from mpcnet.arrays import ring
from mpcnet.arrays.native import library, packing, structures
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.errors import LocalStateError
from mpcnet.rounds import Part

needs_kernels = pytest.mark.skipif(library.load() is None, reason="the kernels were not built")


def test_level_in_use() -> None:
    assert library.level() == (library.levels()[-1] if library.levels() else library.FALLBACK)
    assert set(library.levels()) <= set(library.LEVELS)


def test_what_kernels_can_work_on() -> None:
    x = torch.zeros(2)
    assert library.usable(x) == (library.load() is not None)
    assert not library.usable(x, torch.zeros(2, device="meta"))
    assert not library.usable(x, ShapeOnly((2,), torch.float32))  # type: ignore[arg-type]


@needs_kernels
def test_a_level_that_this_processor_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "best", lambda: 0)
    with pytest.raises(ValueError, match="no avx512ifma"):
        packing.pack(torch.zeros(2, dtype=torch.int64), 64, "avx512ifma")


@needs_kernels
def test_a_function_that_is_missing() -> None:
    with pytest.raises(LocalStateError, match="no function mpc_nothing; reinstall mpcnet"):
        library.Kernel("mpc_nothing")(None)


@needs_kernels
def test_kernels_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ABI", 0)
    with pytest.raises(LocalStateError, match=r"want version 0, got [1-9][0-9]*; reinstall mpcnet"):
        library.load.__wrapped__()


class Longer(structures.Term):
    """With a field more than the C side has."""

    _fields_ = (("more", ctypes.c_int64),)


@needs_kernels
@pytest.mark.parametrize(("name", "got"), [("mpc_term", ctypes.sizeof(structures.Term)), ("mpc_nothing", -1)])
def test_structures_of_other_sizes(name: str, got: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(structures.ALL, name, Longer)
    want = f"struct {name}: want {ctypes.sizeof(Longer)} bytes, got {got}; reinstall mpcnet"
    with pytest.raises(LocalStateError, match=want):
        library.load.__wrapped__()


def test_every_structure_is_compared() -> None:
    """With the C side, before anything is passed."""
    declared = {x for x in vars(structures).values() if isinstance(x, type) and x.__module__ == structures.__name__}
    assert declared == set(structures.ALL.values())


@pytest.fixture
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(library, "best", lambda: -1)


@pytest.mark.usefixtures("nothing_built")
def test_nothing_built() -> None:
    assert (library.level(), library.levels(), library.usable(torch.zeros(1))) == ("torch", (), False)
    with pytest.raises(LocalStateError, match=r"not built.*; install a C compiler"):
        library._function("mpc_pack", ())


@pytest.mark.parametrize("bits", [2, 12, 16, 24, 32, 40, 48, 64])
def test_torch_gives_the_same(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every function of the ring that has a kernel, with and without."""
    generator = torch.Generator().manual_seed(bits)
    x, y, z = (ring.fit(torch.randint(-(2**63), 2**63 - 1, (9, 9), generator=generator), bits) for _ in range(3))
    part = Part(bits, (9, 9))

    def everything() -> list[object]:
        raw = ring.pack(x, bits)
        results = [ring.unpack(raw, part), ring.unpack_opened(y, raw, part)]
        results += [
            ring.reduce(value, bits)
            for value in (ring.matmul(x, y, bits), ring.combine(((1, x, y), (-1, y, z)), x, bits))
        ]
        return [raw.tolist(), ring.pack_difference(x, y, bits).tolist(), *(value.tolist() for value in results)]

    with_kernels = everything()
    monkeypatch.setattr(library, "best", lambda: -1)
    assert everything() == with_kernels


def test_shapes_go_through() -> None:
    """What the meter and the dealer compute with has no kernels."""
    a, b = ShapeOnly((2, 3, 4), torch.int64), ShapeOnly((4, 5), torch.int64)
    c = ShapeOnly((2, 3, 5), torch.int64)
    assert ring.matmul(a, b, 48).shape == (2, 3, 5)  # type: ignore[arg-type]
    assert ring.combine(((1, a, b), (-1, a, b)), c, 48).shape == (2, 3, 5)  # type: ignore[arg-type]
