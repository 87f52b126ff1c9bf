"""The shared object with the C kernels: where it is, what this processor can run of it, how it is called.

Calls go through ctypes, which lets other Python threads run meanwhile. Every kernel takes its level as an argument, so
nothing here can be switched; tests pass each of :func:`levels`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

from mpcnet.arrays.native import structures
from mpcnet.errors import LocalStateError

ABI = 13  # MPC_ABI of csrc/kernels.h
LEVELS = ("portable", "avx2", "avx512", "avx512ifma", "amx")  # by their number in csrc/kernels.h
FALLBACK = "torch"
MISSING = "native kernels: not built, so torch does their work, more slowly; install a C compiler and reinstall mpcnet"

POINTER, SIZE, INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


@cache
def load() -> ctypes.CDLL | None:
    """The kernels, or None where they were not built.

    :raises LocalStateError: they were built from other sources than these: another ABI, or structures of other sizes.
    """
    folder = Path(__file__).parent
    found = [path for path in (folder / f"_kernels{suffix}" for suffix in EXTENSION_SUFFIXES) if path.exists()]
    if not found:
        return None
    library = ctypes.CDLL(str(found[0]))
    if (got := library.mpc_abi()) != ABI:
        raise _outdated(f"want version {ABI}, got {got}")
    size_of = library.mpc_sizeof
    size_of.argtypes, size_of.restype = (ctypes.c_char_p,), SIZE
    for name, structure in structures.ALL.items():
        if (got := size_of(name.encode())) != (want := ctypes.sizeof(structure)):
            raise _outdated(f"struct {name}: want {want} bytes, got {got}")
    return library


def _outdated(what: str) -> LocalStateError:
    return LocalStateError(f"native kernels: {what}; reinstall mpcnet to rebuild them")


@cache
def best() -> int:
    """The number of the highest level that this processor has."""
    library = load()
    return -1 if library is None else int(library.mpc_level())


def level() -> str:
    """The level in use, or "torch" where there are no kernels."""
    return FALLBACK if best() < 0 else LEVELS[best()]


def levels() -> tuple[str, ...]:
    """Every level that this processor can run, slowest first."""
    return LEVELS[: best() + 1]


def usable(*tensors: Tensor) -> bool:
    """Whether kernels can work on these: plain tensors in memory, not shapes only, nor on another device."""
    return best() >= 0 and all(type(x) is Tensor and x.device.type == "cpu" for x in tensors)


@cache
def _function(name: str, arguments: tuple[type, ...]) -> Callable[..., int]:
    library = load()
    if library is None:
        raise LocalStateError(MISSING)
    function = getattr(library, name, None)
    if function is None:
        raise _outdated(f"no function {name}")
    function.argtypes, function.restype = (INT, INT, *arguments), INT
    return function  # type: ignore[no-any-return]


class Kernel:
    """An exported function `int name(int level, int threads, ...)`, bound when it is first called.

    An argument of type `ctypes.POINTER(structure)` takes a structure, which is passed by its address.
    """

    __slots__ = ("_arguments", "_name")

    def __init__(self, name: str, *arguments: type) -> None:
        self._name, self._arguments = name, arguments

    def __call__(self, level: str | None, *arguments: int | ctypes.Structure | None) -> None:
        """Run at `level`, or at the best one; the caller has checked the arguments.

        :raises MemoryError: no room for the kernel's buffers.
        """
        number = best() if level is None else LEVELS.index(level)
        if number > best():
            raise ValueError(f"{self._name}: this processor has no {level}")
        if _function(self._name, self._arguments)(number, torch.get_num_threads(), *arguments):
            raise MemoryError(f"{self._name}: no memory for its buffers")


def check(name: str, x: Tensor, kind: torch.dtype, shape: Sequence[int]) -> Tensor:
    """`x`, contiguous. The caller keeps the result for as long as a kernel has its pointer.

    :raises ValueError: it has another type, device or shape than a kernel may touch.
    """
    if type(x) is not Tensor or x.device.type != "cpu" or x.dtype != kind or tuple(x.shape) != tuple(shape):
        raise ValueError(f"{name}: want {kind} {list(shape)} on the cpu, got {x.dtype} {list(x.shape)} on {x.device}")
    return x.contiguous()


def digit(name: str, entries: int) -> int:
    """How many bits number the entries of a table.

    :raises ValueError: a table of so many does not belong to a digit.
    """
    if entries < 1 or entries & (entries - 1):
        raise ValueError(f"{name}: want a power of two of entries, got {entries}")
    return entries.bit_length() - 1
