"""Shape-only tensors: every operation has the shape and type that torch gives real ones, or is refused by name."""

import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.memory import Memory
from mpcnet.arrays.shapes import ShapeOnly, broadcast

TYPES = [torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float64]
INTEGERS = TYPES[1:5]


def real(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.ones(shape, dtype=dtype)


def shape_only(x: Any) -> Any:
    return ShapeOnly(x.shape, x.dtype) if isinstance(x, Tensor) else x


def same(got: Any, want: Any) -> None:
    if isinstance(want, tuple | list):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            same(one, other)
        return
    assert isinstance(got, ShapeOnly)
    assert (got.shape, got.dtype, got.ndim, got.numel()) == (tuple(want.shape), want.dtype, want.ndim, want.numel())


ARITHMETIC = [operator.add, operator.sub, operator.mul]
BITS = [operator.and_, operator.or_, operator.xor]
SHIFTS = [operator.lshift, operator.rshift]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


def check_operator(op: Callable[[Any, Any], Any], a: Any, b: Any) -> None:
    """Both shape only, and each of them with the other real, as far as torch allows the operation."""
    want = op(a, b)
    tensors = [isinstance(a, Tensor), isinstance(b, Tensor)]
    for hide_a, hide_b in itertools.product(*([True, False] if tensor else [False] for tensor in tensors)):
        if hide_a or hide_b:
            same(op(shape_only(a) if hide_a else a, shape_only(b) if hide_b else b), want)


@pytest.mark.parametrize("op", [*ARITHMETIC, *BITS, *SHIFTS, *COMPARISONS], ids=lambda op: op.__name__)
def test_operators_promote_and_broadcast_as_torch_does(op: Callable[[Any, Any], Any]) -> None:
    types = INTEGERS if op in (*BITS, *SHIFTS) else TYPES
    shapes = [((2, 3), (2, 3)), ((2, 1), (3,)), ((4, 1, 3), (2, 1)), ((2, 3), ()), ((), ()), ((0, 3), (1, 1))]
    for (a, b), first, second in itertools.product(shapes, types, types):
        if op is operator.sub and torch.bool in (first, second):
            continue  # torch refuses to subtract booleans
        check_operator(op, real(*a, dtype=first), real(*b, dtype=second))


@pytest.mark.parametrize("op", [*ARITHMETIC, *BITS, *SHIFTS, *COMPARISONS], ids=lambda op: op.__name__)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_operators_with_numbers(op: Callable[[Any, Any], Any], dtype: torch.dtype) -> None:
    for shape in ((2, 3), ()):
        check_operator(op, real(*shape, dtype=dtype), 3)
        check_operator(op, 3, real(*shape, dtype=dtype))
        if op in (*ARITHMETIC, *COMPARISONS):
            check_operator(op, real(*shape, dtype=dtype), 0.5)
    if op is not operator.sub:
        check_operator(op, real(2, 3, dtype=torch.bool), 1)


ONE = {
    "neg": lambda x: -x,
    "to": lambda x: x.to(torch.int16),
    "to the same": lambda x: x.to(x.dtype),
    "new_zeros": lambda x: x.new_zeros(5, 2),
    "new_zeros of a type": lambda x: x.new_zeros((5,), dtype=torch.uint8),
    "sum": lambda x: x.sum(1),
    "sum keeping": lambda x: x.sum(-1, keepdim=True),
    "sum of a type": lambda x: x.sum(0, dtype=torch.uint8),
    "cumsum": lambda x: x.cumsum(-1),
    "cumsum of a type": lambda x: x.cumsum(-1, dtype=torch.int16),
    "reshape": lambda x: x.reshape(4, 6),
    "reshape to the rest": lambda x: x.reshape(-1, 2),
    "reshape by a tuple": lambda x: x.reshape((2, -1)),
    "transpose": lambda x: x.transpose(0, -1),
    "permute": lambda x: x.permute(2, 0, 1),
    "flip": lambda x: x.flip(-1),
    "unsqueeze": lambda x: (x.unsqueeze(0), x.unsqueeze(-1), x.unsqueeze(2)),
    "squeeze": lambda x: (x.unsqueeze(1).squeeze(1), x.squeeze(-1)),
    "unbind": lambda x: x.unbind(-1),
    "iterate": lambda x: list(x),
    "expand": lambda x: (x.expand(5, 2, 3, 4), x.unsqueeze(1).expand(-1, 7, -1, 4), x[:, :1].expand(2, 0, 4)),
    "contiguous": lambda x: x.transpose(0, 1).contiguous(),
    "integers": lambda x: (x[0], x[-1, 2], x[0, 1, 2], x[:, 0]),
    "slices": lambda x: (x[1:], x[..., :-1], x[:, -1:], x[:, 5:9], x[::2, 1:3, -9:]),
    "new axes": lambda x: (x[None], x[:, None, None, :], x[..., None], x[0, ..., None]),
    "an ellipsis for nothing": lambda x: x[0, ..., 1, 2],
    "a table of indices": lambda x: (x[:, real(2, 5)], x[real(4)], x[..., real(6), :]),
    "cat": lambda x: torch.cat([x, x[:, :1]], 1),
    "cat of types": lambda x: torch.cat([x, x.to(torch.int16)], -1),
    "stack": lambda x: (torch.stack([x, x]), torch.stack((x, x, x), -1)),
    "zeros_like": lambda x: torch.zeros_like(x),
    "ones_like": lambda x: torch.ones_like(x, dtype=torch.uint8),
    "empty_like": lambda x: torch.empty_like(x),
    "matmul": lambda x: (x @ x.transpose(1, 2), torch.matmul(x[0], x.transpose(1, 2)), x[0] @ x[0].transpose(0, 1)),
}


@pytest.mark.parametrize("name", ONE)
def test_operations_of_one_tensor(name: str) -> None:
    for dtype in (torch.uint8, torch.int64):
        x = real(2, 3, 4, dtype=dtype)
        same(ONE[name](shape_only(x)), ONE[name](x))


TWO = {
    "matmul": (lambda a, b: a @ b, real(5, 1, 2, 3), real(4, 3, 6)),
    "take_along_dim": (lambda a, b: torch.take_along_dim(a, b, -1), real(2, 3, 4), real(2, 3, 1)),
    "take_along_dim, broadcasting": (lambda a, b: torch.take_along_dim(a, b, 1), real(2, 3, 1), real(1, 5, 4) * 0),
    "index_select": (lambda a, b: a.index_select(1, b), real(2, 3), real(7)),
    "lookup": (ring.lookup, real(10), real(2, 3)),
    "index_add": (lambda a, b: a.index_add(0, real(3), b), real(2, 3), real(3, 3)),
    "index_add by shapes": (
        lambda a, b: torch.zeros(2, 3).index_add(0, a, b),
        real(4),
        real(4, 3, dtype=torch.float32),
    ),
    "cat": (lambda a, b: torch.cat([a, b]), real(2, 3), real(4, 3, dtype=torch.uint8)),
    "stack": (lambda a, b: torch.stack([a, b], 1), real(2, 3), real(2, 3)),
}


@pytest.mark.parametrize("name", TWO)
def test_operations_of_two_tensors_one_or_both_shape_only(name: str) -> None:
    function, a, b = TWO[name]
    want = function(a, b)
    for pair in ((shape_only(a), shape_only(b)), (shape_only(a), b), (a, shape_only(b))):
        same(function(*pair), want)


X = ShapeOnly((2, 3, 4), torch.int64)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda: X.scatter(0, X, X), "scatter"),
        (lambda: torch.round(X), "round"),
        (lambda: torch.where(X, 1, 0), "where"),
        (lambda: real(4).expand_as(X), "expand_as"),
        (lambda: X / 2, "/"),
        (lambda: real(4) / X, "/"),
        (lambda: X + "1", r"\+"),
        (lambda: X < "1", "compare"),
        (lambda: X.to("cpu"), "cpu"),
        (lambda: bool(X == X), "value"),
        (lambda: int(X), "value"),
        (lambda: X.item(), "value"),
        (lambda: np.asarray(X), "value"),
        (lambda: [1, 2, 3][:X], "value"),
        (lambda: X[X > 0], "indexed"),
        (lambda: X[real(2), 1], "indexed"),
        (lambda: X[True], "indexed"),
        (lambda: X @ real(4), "vector"),
        (lambda: X @ real(4, 2, dtype=torch.int32), "int32"),
        (lambda: X.index_add(0, real(1), real(2, 3, 4)), "index_add"),
        (lambda: torch.take_along_dim(X, real(2), -1), "take_along_dim"),
    ],
)
def test_what_is_not_supported_says_so(function: Callable[[], Any], named: str) -> None:
    with pytest.raises(TypeError, match=named):
        function()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + x[:, :2],
        lambda x: x.reshape(5, 5),
        lambda x: x.reshape(-1, 7),
        lambda x: x.expand(2, 5, 4),
        lambda x: x.expand(3, 4),
        lambda x: x.permute(0, 0, 1),
        lambda x: x @ x,
        lambda x: torch.cat([x, x[0]]),
        lambda x: torch.stack([x, x[:1]]),
        lambda x: x[2],
        lambda x: x[0, 0, 0, 0],
        lambda x: x.sum(3),
        lambda x: x.unsqueeze(5),
    ],
)
def test_what_torch_refuses_is_refused(function: Callable[[Any], Any]) -> None:
    x = real(2, 3, 4)
    for value in (x, shape_only(x)):
        with pytest.raises((ValueError, IndexError, RuntimeError)):
            function(value)


def test_broadcast_is_torchs() -> None:
    sizes = [(), (1,), (3,), (2, 1), (2, 3), (4, 1, 1), (0,), (1, 0)]
    for shapes in itertools.product(sizes, repeat=2):
        try:
            want = tuple(torch.broadcast_shapes(*shapes))
        except RuntimeError:
            with pytest.raises(ValueError, match="cannot broadcast"):
                broadcast(*shapes)
        else:
            assert broadcast(*shapes) == want


def test_memory_counts_storages_not_views() -> None:
    memory = Memory()
    outside = ring.zeros((1000,), 64, "meta")
    with memory:
        assert outside[:10].shape == (10,)
        assert memory.live == 0, "made before"
        x = outside + 1
        y = x.to(torch.int16)
        assert (memory.live, memory.peak) == (10000, 10000)
        views = [x[:10], x.reshape(10, 100).transpose(0, 1), x.to(torch.int64), *x.reshape(2, 500).unbind(0)]
        assert (memory.live, memory.peak) == (10000, 10000)
        del x, y
        assert (memory.live, memory.peak) == (8000, 10000), "views keep their storage"
        del views
        assert (memory.live, memory.peak) == (0, 10000)
        kept = outside + outside
    assert (ring.zeros((9,), 64, "meta").shape, memory.live) == ((9,), 8000), "made after"
    del kept
    assert (memory.live, memory.peak) == (0, 10000)


def test_memory_nests_and_is_used_again() -> None:
    outer, inner = Memory(), Memory()
    with outer:
        with inner:
            a = ring.zeros((10,), 8, "meta")
        b = ring.zeros((20,), 8, "meta")
    with outer:
        c = ring.zeros((5,), 8, "meta")
    assert (inner.live, outer.live) == (10, 25)
    assert len({a, b, c}) == 3, "hashed by identity, as tensors are"
