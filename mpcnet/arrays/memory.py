"""How much memory a program's arrays take, counted on shapes as each is made and dropped."""

from __future__ import annotations

from contextvars import ContextVar, Token


class Memory:
    """Bytes of the shape-only tensors alive, and their maximum, of those made while `with memory:` is active.

    Views (slices, transposes, and every reshape) share the bytes of what they view.
    """

    def __init__(self) -> None:
        self.live = 0
        self.peak = 0
        self._entered: list[Token[Memory | None]] = []

    def __enter__(self) -> Memory:
        self._entered.append(_active.set(self))
        return self

    def __exit__(self, *exc: object) -> None:
        _active.reset(self._entered.pop())


_active: ContextVar[Memory | None] = ContextVar("mpcnet memory", default=None)


class Storage:
    """The bytes behind one or more shape-only tensors; they count until the last of these is dropped."""

    __slots__ = ("memory", "nbytes")

    def __init__(self, memory: Memory, nbytes: int) -> None:
        self.memory = memory
        self.nbytes = nbytes
        memory.live += nbytes
        memory.peak = max(memory.peak, memory.live)

    def __del__(self) -> None:
        self.memory.live -= self.nbytes


def counting() -> Memory | None:
    """The memory that counts now, if any."""
    return _active.get()
