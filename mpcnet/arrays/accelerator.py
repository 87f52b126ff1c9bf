"""Exact matrix products mod 2^k on a GPU, by products of 8-bit integers, for matrices at wire width, which stay there.

A word is a sum of signed bytes, x = sum of d_i 2^8i mod 2^k: d_i is byte i of x + 128 (1 + 2^8 + 2^16 + ...), less 128.
So x y = sum over s of 2^8s times the sum over i + j = s of d_i e_j, and only s < L = ceil(k / 8) count. With the planes
d_0, d_1, ... of x beside each other, and those of y below each other from the highest to the lowest, each s takes one
product of matrices of bytes: of the first s + 1 planes of x by the last s + 1 of y.

The planes of a weight are made when it is first multiplied, and go when it goes. They say what its bytes on this host
say, so the GPU has to be as private as the host's own memory.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from mpcnet.arrays import ring
from mpcnet.arrays.dtypes import dtype
from mpcnet.arrays.native.matmul import Packed, Right
from mpcnet.errors import LocalBusyError, LocalConfigError

CPU = "cpu"
MOST_DEPTH = (2**31 - 1) // 2**14  # of all planes together: products of signed bytes that 32 bits can sum
LEAST_ROWS = 17  # that torch's product of bytes takes
MULTIPLE = 8  # depth and columns that it takes
_LOW = -0x7F7F7F7F7F7F7F80  # 128 in each byte, as a signed word


def on(name: str) -> ring.Combine:
    """:func:`mpcnet.arrays.ring.combine` with products by weights on the device "cpu", "cuda" or "cuda:N".

    :raises LocalConfigError: it is none of those, or not there.
    """
    return ring.combine if name == CPU else Accelerator(_gpu(name)).combine


def describe(name: str) -> str:
    """What a device is called: the processor by the level of its kernels elsewhere."""
    return name if name == CPU else torch.cuda.get_device_name(_gpu(name))


def _gpu(name: str) -> torch.device:
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdecimal()) or name.endswith(":"):
        raise LocalConfigError(f"device: want cpu, cuda or cuda:N, got {name!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        raise LocalConfigError(
            f"device: want {name}, got {count} NVIDIA GPUs that PyTorch can use; "
            'install PyTorch for CUDA and its driver, or set device = "cpu"'
        )
    return torch.device("cuda", int(index or 0))


class Accelerator:
    """A device, and the planes of the weights that it holds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._planes = WeakTensorKeyDictionary()
        self._making = threading.Lock()

    def takes(
        self, terms: Sequence[tuple[int, Tensor, Right]], bits: int
    ) -> TypeGuard[Sequence[tuple[int, Tensor, Packed]]]:
        """Whether all right operands are weights, and of sizes that the device multiplies."""
        limbs = (bits + 7) // 8
        return all(
            isinstance(b, Packed)
            and type(a) is Tensor
            and len(b.shape) == 2
            and a.numel() >= LEAST_ROWS * b.shape[0]
            and b.shape[0] % MULTIPLE == 0
            and 0 < b.shape[0] * limbs <= MOST_DEPTH
            for _, a, b in terms
        )

    def combine(self, terms: Sequence[tuple[int, Tensor, Right]], c: Tensor | None, bits: int) -> Tensor:
        """:func:`mpcnet.arrays.ring.combine`, here for terms that this takes.

        :raises LocalBusyError: the device has no room for them.
        """
        if not self.takes(terms, bits):
            return ring.combine(terms, c, bits)
        try:
            return self._combine(terms, c, bits)
        except torch.OutOfMemoryError as error:  # its text tells sizes only, but is a page long
            raise LocalBusyError(
                f"device {self.device}: no room for the planes of the weights beside a request; "
                'want a GPU with more memory, smaller batches, or device = "cpu"'
            ) from error

    def _combine(self, terms: Sequence[tuple[int, Tensor, Packed]], c: Tensor | None, bits: int) -> Tensor:
        shape = (*terms[0][1].shape[:-1], terms[0][2].shape[1])
        rows, columns, limbs = terms[0][1].numel() // terms[0][2].shape[0], shape[-1], (bits + 7) // 8
        total = torch.zeros(rows, columns, dtype=torch.int64, device=self.device)
        if c is not None:
            total += c.reshape(rows, columns).to(self.device)
        for sign, a, b in terms:
            depth = b.shape[0]
            left, right = self._left(a.reshape(rows, depth), limbs), self._right(b, limbs)
            for s in range(limbs):
                product = _multiply(left[:, : (s + 1) * depth], right[:, (limbs - 1 - s) * depth :].t())
                total.add_(product[:, :columns], alpha=sign << 8 * s)
        out = torch.empty(shape, dtype=dtype(bits), pin_memory=self.device.type == "cuda")
        return out.copy_(total.to(out.dtype).reshape(shape))

    def _left(self, x: Tensor, limbs: int) -> Tensor:
        """The planes of [rows, depth] words beside each other: int8 [rows, limbs depth]."""
        planes = _digits(x.to(self.device).to(torch.int64), limbs)
        return planes.permute(0, 2, 1).reshape(x.shape[0], -1)

    def _right(self, b: Packed, limbs: int) -> Tensor:
        """The planes of [depth, columns] words, transposed: int8 [columns and zeros, limbs depth], highest first."""
        with self._making:
            planes: Tensor | None = self._planes.get(b.raw)  # type: ignore[no-untyped-call]
            if planes is None:
                planes = self._planes[b.raw] = self._new_right(b, limbs)
        return planes

    def _new_right(self, b: Packed, limbs: int) -> Tensor:
        depth, columns = b.shape
        wide = torch.zeros(depth, columns, 8, dtype=torch.uint8, device=self.device)
        wide[..., :limbs] = replace(b, raw=b.raw.to(self.device)).words()
        digits = _digits(wide.view(torch.int64).squeeze(-1), limbs)
        planes = torch.zeros(-(-columns // MULTIPLE) * MULTIPLE, limbs, depth, dtype=torch.int8, device=self.device)
        planes[:columns] = digits.flip(-1).permute(1, 2, 0)
        return planes.reshape(len(planes), limbs * depth)


def _digits(x: Tensor, limbs: int) -> Tensor:
    """The signed bytes of int64 words: int8 [..., limbs], the lowest first."""
    raw = (x + _LOW).contiguous().view(torch.uint8).reshape(*x.shape, 8)
    return (raw[..., :limbs] ^ 128).view(torch.int8)


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """The product of int8 matrices, in int32."""
    if a.is_cuda:
        return torch._int_mm(a, b)
    return a.to(torch.int32) @ b.to(torch.int32)  # for tests on a processor
