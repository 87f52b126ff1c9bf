"""Requests that wait at a server: fair between clients, and taken together where their lengths allow."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalBusyError
from mpcnet.models.private.program import Size
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer

BUCKETS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # tokens; requests of one bucket may run as one batch
PER_CLIENT = 64  # requests that one client may have waiting


@dataclass(slots=True, repr=False, eq=False)
class Reply:
    """The arrays of a result, as soon as there is one."""

    arrays: Sequence[tuple[Part, Bytes]] = ()
    ready: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Request:
    """A client's request: its public size and padding mask [B, n], and what its shares are expanded from."""

    name: bytes
    peer: Peer
    size: Size
    keep: Tensor
    seed: bytes = field(repr=False)
    explicit: Sequence[Bytes] = field(repr=False)
    came_s: float
    reply: Reply = field(default_factory=Reply)

    @property
    def nbytes(self) -> int:
        return sum(raw.nbytes for raw in self.explicit) + self.keep.nbytes


def bucket(length: int) -> int:
    """The least bucket that holds so many tokens; a longer text is a bucket of its own."""
    return next((limit for limit in BUCKETS if length <= limit), length)


class Queue:
    """Clients take turns, each with its oldest request; a younger one may run along with others before it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._clients: OrderedDict[str, deque[Request]] = OrderedDict()  # the next client's turn is first

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def __iter__(self) -> Iterator[Request]:
        """In the order of their turns."""
        lines = [list(line) for line in self._clients.values()]
        for turn in range(max(map(len, lines), default=0)):
            yield from (line[turn] for line in lines if turn < len(line))

    def add(self, request: Request) -> None:
        """:raises LocalBusyError: there is no room for it now."""
        line = self._clients.setdefault(request.peer.name, deque())
        if len(line) >= PER_CLIENT:
            raise LocalBusyError(
                f"{request.peer.name} has {PER_CLIENT} requests waiting; ask again when one is answered"
            )
        if self._held_bytes + request.nbytes > self._limit_bytes:
            if not line:
                del self._clients[request.peer.name]
            raise LocalBusyError(f"the queue is full ({self._held_bytes / 1e6:.0f} MB); ask again in a moment")
        line.append(request)
        self._held_bytes += request.nbytes

    def find(self, name: bytes) -> Request | None:
        return next((request for request in self if request.name == name), None)

    def remove(self, request: Request) -> None:
        """Take it out, if it is there. If it was its client's oldest, its next turn comes after all others'."""
        line = self._clients.get(request.peer.name)
        if line is None or request not in line:
            return
        if request is line[0]:  # one that ran along with others must not cost an older one its turn
            self._clients.move_to_end(request.peer.name)
        line.remove(request)
        self._held_bytes -= request.nbytes
        if not line:
            del self._clients[request.peer.name]

    def group(self, limit_tokens: int) -> list[Request]:
        """The request whose turn it is, and others of its bucket and kind, in turn, up to so many padded tokens.

        They stay in the queue. A request that is larger alone runs alone.
        """
        chosen: list[Request] = []
        for request in self:
            if chosen and _kind(request) != _kind(chosen[0]):
                continue
            together = [*chosen, request]
            rows, length = _extent([r.size for r in together])
            if not chosen or rows * length <= limit_tokens:
                chosen = together
        return chosen


def _kind(request: Request) -> tuple[object, ...]:
    return bucket(request.size.length), *request.size.kind


def _extent(sizes: Sequence[Size]) -> tuple[int, int]:
    return sum(size.batch for size in sizes), max(size.length for size in sizes)


def layout(sizes: Sequence[Size], streams: int) -> tuple[Size, ...]:
    """The sizes of the streams in which requests of these sizes and one kind run: equal lengths, rows near even."""
    rows, length = _extent(sizes)
    count = min(streams, rows)
    return tuple(Size(rows // count + (index < rows % count), length, *sizes[0].kind) for index in range(count))


def fits(sizes: Sequence[Size], prepared: Sequence[Size]) -> bool:
    """True if requests of these sizes can run in streams of the prepared sizes, at no more than twice the work."""
    rows, length = _extent(sizes)
    room, longest = _extent(prepared)
    same = sizes[0].kind == prepared[0].kind
    return same and rows <= room and length <= longest and room * longest <= 2 * rows * length


def stack(arrays: Sequence[Tensor], streams: Sequence[Size]) -> list[Tensor]:
    """Requests' arrays [b, n, ...] one below the other, then cut into streams [B, N, ...].

    What is missing is filled with copies of a request's first token and of the first row: values that are sure to be
    in range, whose results nobody reads.
    """
    rows, length = _extent(streams)
    tall = torch.cat([_lengthened(array, length) for array in arrays])
    if spare := rows - len(tall):
        tall = torch.cat([tall, tall[:1].expand(spare, *tall.shape[1:])])
    return list(torch.split(tall, [size.batch for size in streams]))


def _lengthened(array: Tensor, length: int) -> Tensor:
    batch, n, *rest = array.shape
    return torch.cat([array, array[:, :1].expand(batch, length - n, *rest)], 1) if n < length else array


def stack_masks(masks: Sequence[Tensor], streams: Sequence[Size]) -> list[Tensor]:
    """The same for padding masks: copied tokens are padding, copied rows are as their original."""
    padded = [torch.nn.functional.pad(mask, (0, streams[0].length - mask.shape[1])) for mask in masks]
    return stack(padded, streams)
