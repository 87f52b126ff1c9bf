"""A tensor without data: what the meter and the dealer run the servers' program on.

:class:`ShapeOnly` answers the tensor operations that protocols use with a shape and a type, and raises
:class:`TypeError` for every other one, and for whatever depends on values (a condition, a boolean mask). Torch's own
"meta" device does the same at a hundred times the price of an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from mpcnet.arrays.memory import Storage, counting

Shape = tuple[int, ...]


@lru_cache(maxsize=4096)
def broadcast(*shapes: Shape) -> Shape:
    """The common shape of tensors that are combined elementwise."""
    ndim = max(map(len, shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for place, size in enumerate(shape, ndim - len(shape)):
            if size != 1 and result[place] not in (1, size):
                raise ValueError(f"cannot broadcast {' and '.join(str(list(s)) for s in shapes)}")
            result[place] = result[place] if size == 1 else size
    return tuple(result)


@lru_cache(maxsize=4096)
def _promote(a: torch.dtype, a_is_number: bool, b: torch.dtype, b_is_number: bool) -> torch.dtype:
    """The type of a combination, by torch's own rules, where tensors without dimensions count as numbers."""
    first, second = (
        torch.empty(() if is_number else (0,), dtype=kind) for kind, is_number in ((a, a_is_number), (b, b_is_number))
    )
    return torch.result_type(first, second)


@lru_cache(maxsize=256)
def _promote_number(a: torch.dtype, is_number: bool, number: type) -> torch.dtype:
    return torch.result_type(torch.empty(() if is_number else (0,), dtype=a), number(1))


class ShapeOnly:
    """A tensor's shape and type. Annotated as `Tensor` wherever protocols see it."""

    __slots__ = ("dtype", "shape", "storage")

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.shape: Shape = tuple(shape)
        self.dtype = dtype
        memory = counting()
        self.storage = None if memory is None else Storage(memory, prod(self.shape) * dtype.itemsize)

    def _view(self, shape: Shape) -> ShapeOnly:
        view: ShapeOnly = object.__new__(ShapeOnly)
        view.shape, view.dtype, view.storage = shape, self.dtype, self.storage
        return view

    def __repr__(self) -> str:
        return f"ShapeOnly({list(self.shape)}, {self.dtype})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # Python and numpy probe for these
        raise TypeError(f"shape-only tensors do not support .{name}")

    # What needs values.

    def _no_value(self, *_: object) -> Any:
        raise TypeError("a shape-only tensor has no value: a program must not depend on one")

    __bool__ = __int__ = __float__ = __index__ = __contains__ = _no_value
    item = tolist = numpy = __array__ = _no_value

    # Sizes.

    @property
    def device(self) -> torch.device:
        return torch.device("meta")

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    # Elementwise.

    def _combine(self, other: Any) -> Any:
        kind: type = type(other)
        if kind is ShapeOnly or isinstance(other, Tensor):
            shape, theirs = self.shape, other.shape
            dtype = self.dtype
            if other.dtype != dtype:
                dtype = _promote(dtype, not shape, other.dtype, not theirs)
            return ShapeOnly(shape if shape == theirs else broadcast(shape, theirs), dtype)
        if kind in (int, float, bool):
            return ShapeOnly(self.shape, _promote_number(self.dtype, not self.shape, kind))
        return NotImplemented  # Python then raises a TypeError that names the operator

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _combine
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _combine
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _combine

    def _compare(self, other: Any) -> ShapeOnly:
        if type(other) in (int, float, bool):
            return ShapeOnly(self.shape, torch.bool)
        if isinstance(other, (ShapeOnly, Tensor)):
            return ShapeOnly(broadcast(self.shape, tuple(other.shape)), torch.bool)
        raise TypeError(f"cannot compare a shape-only tensor with {type(other).__name__}")

    __lt__ = __le__ = __gt__ = __ge__ = _compare
    __eq__ = __ne__ = _compare  # type: ignore[assignment]
    __hash__ = object.__hash__

    def __neg__(self) -> ShapeOnly:
        return ShapeOnly(self.shape, self.dtype)

    def to(self, what: torch.dtype | torch.device | str) -> ShapeOnly:
        """Another type; a device must be "meta"."""
        if isinstance(what, torch.dtype):
            return self if what == self.dtype else ShapeOnly(self.shape, what)
        if torch.device(what).type != "meta":
            raise TypeError(f"shape-only tensors do not support .to({str(what)!r})")
        return self

    def new_zeros(self, *shape: Any, dtype: torch.dtype | None = None) -> ShapeOnly:
        return ShapeOnly(_sizes(shape), dtype or self.dtype)

    # Reductions and scans.

    def sum(self, dim: int, keepdim: bool = False, dtype: torch.dtype | None = None) -> ShapeOnly:
        place = _place(self, dim)
        shape = self.shape[:place] + ((1,) if keepdim else ()) + self.shape[place + 1 :]
        return ShapeOnly(shape, dtype or _total_type(self.dtype))

    def cumsum(self, dim: int, dtype: torch.dtype | None = None) -> ShapeOnly:
        _place(self, dim)
        return ShapeOnly(self.shape, dtype or _total_type(self.dtype))

    # Rearrangements.

    def reshape(self, *shape: Any) -> ShapeOnly:
        wanted = _sizes(shape)
        if -1 in wanted:
            known = -prod(wanted)
            if known and not self.numel() % known:
                wanted = tuple(self.numel() // known if size == -1 else size for size in wanted)
        if prod(wanted) != self.numel() or min(wanted, default=0) < 0:
            raise ValueError(f"cannot reshape {self!r} to {list(wanted)}")
        return self._view(wanted)

    def contiguous(self) -> ShapeOnly:
        return self

    def transpose(self, first: int, second: int) -> ShapeOnly:
        order = list(range(len(self.shape)))
        a, b = _place(self, first), _place(self, second)
        order[a], order[b] = b, a
        return self.permute(*order)

    def permute(self, *dims: Any) -> ShapeOnly:
        order = [_place(self, dim) for dim in _sizes(dims)]
        if sorted(order) != list(range(len(self.shape))):
            raise ValueError(f"cannot permute {self!r} by {list(dims)}")
        return self._view(tuple(self.shape[dim] for dim in order))

    def flip(self, *dims: Any) -> ShapeOnly:
        for dim in _sizes(dims):
            _place(self, dim)
        return ShapeOnly(self.shape, self.dtype)

    def unsqueeze(self, dim: int) -> ShapeOnly:
        place = _place(self, dim, 1)
        return self._view((*self.shape[:place], 1, *self.shape[place:]))

    def squeeze(self, dim: int) -> ShapeOnly:
        place = _place(self, dim)
        return self._view(self.shape[:place] + self.shape[place + 1 :]) if self.shape[place] == 1 else self

    def unbind(self, dim: int = 0) -> tuple[ShapeOnly, ...]:
        place = _place(self, dim)
        rest = self.shape[:place] + self.shape[place + 1 :]
        return tuple(self._view(rest) for _ in range(self.shape[place]))

    def expand(self, *sizes: Any) -> ShapeOnly:
        wanted = _sizes(sizes)
        more = len(wanted) - len(self.shape)
        own = (1,) * more + self.shape
        if more >= 0:
            pairs = list(zip(wanted, own, strict=True))
            shape = tuple(size if want == -1 and place >= more else want for place, (want, size) in enumerate(pairs))
            if all(want == size or (size == 1 and want >= 0) for want, size in zip(shape, own, strict=True)):
                return self._view(shape)
        raise ValueError(f"cannot expand {self!r} to {list(wanted)}")

    # Indexing.

    def __getitem__(self, index: Any) -> ShapeOnly:
        """Integers, slices, None, an ellipsis, and at most one integer tensor, then without integers beside it."""
        entries = list(index) if isinstance(index, tuple) else [index]
        used = sum(1 for entry in entries if entry is not None and entry is not Ellipsis)
        if used > len(self.shape):
            raise IndexError(f"too many indices for {self!r}")
        left = [slice(None)] * (len(self.shape) - used)
        at = next((i for i, entry in enumerate(entries) if entry is Ellipsis), len(entries))
        entries[at : at + 1] = left
        shape: list[int] = []
        sizes = iter(self.shape)
        gathers = 0
        for entry in entries:
            if entry is None:
                shape.append(1)
                continue
            size = next(sizes)
            if isinstance(entry, slice):
                shape.append(len(range(*entry.indices(size))))
            elif isinstance(entry, int) and not isinstance(entry, bool):
                if not -size <= entry < size:
                    raise IndexError(f"index {entry} is out of range for {self!r}")
            elif isinstance(entry, (ShapeOnly, Tensor)) and entry.dtype in _INDEX_TYPES:
                gathers += 1
                shape.extend(entry.shape)
            else:
                raise TypeError(f"shape-only tensors cannot be indexed by {entry!r}")
        if not gathers:
            return self._view(tuple(shape))
        if gathers > 1 or any(isinstance(entry, int) for entry in entries):
            raise TypeError("shape-only tensors cannot be indexed by a tensor together with a tensor or an integer")
        return ShapeOnly(shape, self.dtype)

    def index_select(self, dim: int, index: Tensor | ShapeOnly) -> ShapeOnly:
        return _index_select(self, dim, index)

    def index_add(self, dim: int, index: Tensor | ShapeOnly, source: Tensor | ShapeOnly) -> ShapeOnly:
        return _index_add(self, dim, index, source)

    # Products and functions of the torch module.

    def __matmul__(self, other: Any) -> ShapeOnly:
        return _matmul(self, other) if isinstance(other, (ShapeOnly, Tensor)) else NotImplemented

    def __rmatmul__(self, other: Any) -> ShapeOnly:
        return _matmul(other, self) if isinstance(other, (ShapeOnly, Tensor)) else NotImplemented

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """torch.f(...) with a shape-only argument, and methods and operators of a real tensor with one."""
        handler = _FUNCTIONS.get(func.__name__)
        if handler is None:
            raise TypeError(f"shape-only tensors do not support torch's {func.__name__}")
        return handler(*args, **(kwargs or {}))


AnyTensor = Tensor | ShapeOnly
_INDEX_TYPES = (torch.int32, torch.int64)


def _total_type(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.int64


def _place(x: AnyTensor, dim: int, more: int = 0) -> int:
    """A dimension of `x` (or of `x` with `more` dimensions), counted from the front."""
    ndim = len(x.shape) + more
    if not -ndim <= dim < ndim:
        raise IndexError(f"a tensor of {ndim} dimensions has none numbered {dim}")
    return dim % ndim


def _sizes(given: tuple[Any, ...]) -> Shape:
    """Sizes given one by one or as one sequence."""
    return given if len(given) != 1 or isinstance(given[0], int) else tuple(given[0])


def _like(x: ShapeOnly, dtype: torch.dtype | None = None) -> ShapeOnly:
    return ShapeOnly(x.shape, dtype or x.dtype)


def _matmul(a: AnyTensor, b: AnyTensor) -> ShapeOnly:
    if a.dtype != b.dtype:
        raise TypeError(f"matrix product of {a.dtype} and {b.dtype}")
    if a.ndim < 2 or b.ndim < 2:
        raise TypeError("shape-only tensors do not support a matrix product with a vector")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matrix product of {list(a.shape)} and {list(b.shape)}")
    batch = broadcast(tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    return ShapeOnly((*batch, a.shape[-2], b.shape[-1]), a.dtype)


def _joint_type(values: Sequence[AnyTensor]) -> torch.dtype:
    dtype = values[0].dtype
    for value in values[1:]:
        dtype = torch.promote_types(dtype, value.dtype)
    return dtype


def _cat(values: Sequence[AnyTensor], dim: int = 0) -> ShapeOnly:
    first = values[0]
    place = _place(first, dim)
    rest = first.shape[:place] + first.shape[place + 1 :]
    for value in values:
        if value.ndim != first.ndim or tuple(value.shape[:place] + value.shape[place + 1 :]) != rest:
            raise ValueError(f"cannot join {[list(value.shape) for value in values]} along dimension {dim}")
    total = sum(value.shape[place] for value in values)
    return ShapeOnly((*rest[:place], total, *rest[place:]), _joint_type(values))


def _stack(values: Sequence[AnyTensor], dim: int = 0) -> ShapeOnly:
    first = values[0]
    if any(value.shape != first.shape for value in values):
        raise ValueError(f"cannot stack {[list(value.shape) for value in values]}")
    place = _place(first, dim, 1)
    return ShapeOnly((*first.shape[:place], len(values), *first.shape[place:]), _joint_type(values))


def _take_along_dim(x: AnyTensor, index: AnyTensor, dim: int) -> ShapeOnly:
    if index.dtype != torch.int64 or index.ndim != x.ndim:
        raise TypeError(f"take_along_dim of {list(x.shape)} by {list(index.shape)}, {index.dtype}")
    place = _place(x, dim)
    own, wanted = list(x.shape), list(index.shape)
    own[place] = wanted[place]
    return ShapeOnly(broadcast(tuple(own), tuple(wanted)), x.dtype)


def _index_select(x: AnyTensor, dim: int, index: AnyTensor) -> ShapeOnly:
    if index.dtype not in _INDEX_TYPES or index.ndim != 1:
        raise TypeError(f"index_select wants one dimension of integers, got {list(index.shape)}, {index.dtype}")
    place = _place(x, dim)
    return ShapeOnly((*x.shape[:place], index.shape[0], *x.shape[place + 1 :]), x.dtype)


def _index_add(x: AnyTensor, dim: int, index: AnyTensor, source: AnyTensor) -> ShapeOnly:
    if source.dtype != x.dtype or _index_select(x, dim, index).shape != source.shape:
        raise TypeError(f"index_add of {list(source.shape)}, {source.dtype} to {list(x.shape)}, {x.dtype}")
    return ShapeOnly(x.shape, x.dtype)


def _mixed(method: Callable[[ShapeOnly, Any], Any]) -> Callable[[AnyTensor, Any], Any]:
    """An operator of a real tensor whose other operand is shape only; the result does not depend on their order."""
    return lambda a, b: method(a, b) if isinstance(a, ShapeOnly) else method(b, a)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("add", "sub", "mul", "__and__", "__or__", "__xor__"), _mixed(ShapeOnly._combine)),
    **dict.fromkeys(("__lshift__", "__rshift__"), _mixed(ShapeOnly._combine)),
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), _mixed(ShapeOnly._compare)),
    **dict.fromkeys(("zeros_like", "ones_like", "empty_like"), _like),
    "matmul": _matmul,
    "cat": _cat,
    "stack": _stack,
    "take_along_dim": _take_along_dim,
    "index_select": _index_select,
    "index_add": _index_add,
}
