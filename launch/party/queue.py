"""Requests that are held at a server: fair between clients, and taken together where their lengths allow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from mpcnet.errors import LocalBusyError, RemoteProtocolError
from mpcnet.launch.party.request import Request
from mpcnet.models.private.program import Size

BUCKETS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # tokens; requests of one bucket may run as one batch
PER_CLIENT = 64  # requests that one client may have here, answers that it has not taken included


def bucket(length: int) -> int:
    """The least bucket that holds so many tokens; a longer text is a bucket of its own."""
    return next((limit for limit in BUCKETS if length <= limit), length)


class Queue:
    """Clients take turns, each with its oldest request; a younger one may run along with others before it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._clients: OrderedDict[str, list[Request]] = OrderedDict()  # the next client's turn is first

    def __len__(self) -> int:
        """How many wait."""
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Request]:
        """Those that wait, in the order of their turns."""
        lines = [[request for request in line if request.waits] for line in self._clients.values()]
        for turn in range(max(map(len, lines), default=0)):
            yield from (line[turn] for line in lines if turn < len(line))

    def add(self, request: Request) -> None:
        """Make room for it, before its shares are taken.

        :raises LocalBusyError: there is none now.
        :raises RemoteProtocolError: there is a request of this name.
        """
        if self.find(request.name) is not None:
            raise RemoteProtocolError(f"{request.client}: this request id has been used")
        mine = self._clients.get(request.client, [])
        if len(mine) >= PER_CLIENT:
            raise LocalBusyError(
                f"{request.client} has {PER_CLIENT} requests here; ask again when one is answered and taken"
            )
        held = {client: sum(each.held_bytes for each in line) for client, line in self._clients.items()}
        own, limit = held.get(request.client, 0), self._limit_bytes
        if own and own + request.nbytes > limit // 2:
            raise LocalBusyError(
                f"{request.client} has {own / 1e6:.0f} MB of requests here, and gets {limit / 2e6:.0f} MB; "
                "ask again when one is answered"
            )
        if sum(held.values()) + request.nbytes > limit:
            raise LocalBusyError(
                f"the queue holds {sum(held.values()) / 1e6:.0f} of {limit / 1e6:.0f} MB; ask again in a moment"
            )
        self._clients.setdefault(request.client, []).append(request)

    def find(self, name: bytes) -> Request | None:
        return next((each for line in self._clients.values() for each in line if each.name == name), None)

    def took(self, request: Request) -> None:
        """It leaves the line. If it was its client's oldest, that client's next turn comes after all others'."""
        line = [each for each in self._clients.get(request.client, []) if each.waits or each is request]
        if line and request is line[0]:  # one that ran along with others must not cost an older one its turn
            self._clients.move_to_end(request.client)

    def forget(self, request: Request) -> None:
        """Its client has taken the answer, or will not come for it any more."""
        line = self._clients.get(request.client, [])
        if request in line:
            request.end(failure="its client has left")
            request.result = ()
            line.remove(request)
            if not line:
                del self._clients[request.client]

    def group(
        self, limit_tokens: int, among: Collection[Request], fits: Callable[[Sequence[Size]], bool]
    ) -> list[Request]:
        """Of those `among` which we may choose, the request whose turn it is, and others of its bucket and kind, in
        turn, up to so many padded tokens, as long as their run `fits` a server's memory.

        They stay in the queue. A request that is larger alone runs alone.
        """
        chosen: list[Request] = []
        for request in self:
            if request not in among or (chosen and _kind(request) != _kind(chosen[0])):
                continue
            sizes = [each.size for each in (*chosen, request)]
            rows, length = _extent(sizes)
            if not chosen or (rows * length <= limit_tokens and fits(sizes)):
                chosen.append(request)
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


def stack(arrays: Sequence[Tensor], streams: Sequence[Size], *, of_places: bool = False) -> list[Tensor]:
    """Requests' arrays [b, n, ...] one below the other, then cut into streams [B, N, ...]; those of places as they are.

    What is missing is filled with copies of a request's first token and of the first row: values that are sure to be
    in range, whose results nobody reads.
    """
    rows, length = _extent(streams)
    tall = torch.cat([array if of_places else _lengthened(array, length) for array in arrays])
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
