"""TCP between the processes of a virtual cluster: order within a connection, delay, bounded buffers, resets, silence.

What asyncio's loops promise of a transport, this one keeps. Bytes that were sent arrive in order, in pieces of any
size; a process that does not read slows its peers down; who is killed is gone at once, and its peers learn it from a
reset, or not at all.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.loop import PROCESS, VirtualLoop

WINDOW = 1 << 18  # bytes of one direction that the kernels hold
PIECE = 1 << 16  # bytes that arrive at once
SYN_S = 1.0  # an attempt to connect over a broken line is repeated so often


@dataclass
class Line:
    """Between two processes, both ways."""

    delay_s: float
    jitter_s: float
    broken_until_s: float = 0.0  # nothing arrives before


class Watch:
    """What `loop.add_reader` keeps of a socket: its callback runs, again and again, while there is something to read."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._call: Callable[[], None] | None = None
        self._context: Context | None = None
        self._due = False

    def begin(self, call: Callable[[], None], readable: Callable[[], bool]) -> None:
        self._call, self._context, self._readable = call, copy_context(), readable
        self.look()

    def end(self) -> bool:
        before, self._call = self._call, None
        return before is not None

    def look(self) -> None:
        """Something may have come."""
        if self._call is not None and not self._due and self._readable():
            self._due = True
            self._loop.call_soon(self._turn, context=self._context)

    def _turn(self) -> None:
        self._due = False
        if self._call is not None and self._readable():
            self._call()
            self.look()


@dataclass
class Listener:
    """A port."""

    network: Network
    owner: str
    address: str
    arrived: deque[Transport] = field(default_factory=deque)
    closed: bool = False
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.network.loop)

    @property
    def readable(self) -> bool:
        return bool(self.arrived)

    def fileno(self) -> int:
        return -1 if self.closed else 0

    def accept(self) -> tuple[Transport, tuple[str, int]]:
        """One that has connected.

        :raises OSError: there is none, or it is of no use.
        """
        if not self.arrived:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        if self.owner in self.network.no_descriptors:
            raise OSError(errno.EMFILE, "Too many open files")
        transport = self.arrived.popleft()
        return transport, (transport.other, 1)

    def getsockname(self) -> tuple[str, int]:
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    def close(self) -> None:
        self.closed = True
        if self.network.listeners.get(self.address) is self:
            del self.network.listeners[self.address]
        for transport in self.arrived:
            transport.vanish(told=True)
        self.arrived.clear()


class Network:
    """All lines, ports and connections."""

    def __init__(self, loop: VirtualLoop, draw: random.Random, note: Callable[..., None]) -> None:
        self.loop, self.draw, self.note = loop, draw, note
        self.listeners: dict[str, Listener] = {}
        self.transports: list[Transport] = []
        self.no_descriptors: set[str] = set()  # processes that have used them up
        self._lines: dict[frozenset[str], Line] = {}

    @property
    def lines(self) -> list[Line]:
        return list(self._lines.values())

    def line(self, one: str, other: str) -> Line:
        ends = frozenset((one, other))
        if ends not in self._lines:
            slow = 10.0 ** (-4 + 3 * self.draw.random())  # 0.1 ms to 0.1 s
            self._lines[ends] = Line(slow, slow * self.draw.random())
        return self._lines[ends]

    def flight_s(self, one: str, other: str) -> float:
        line = self.line(one, other)
        wait_s = line.delay_s + line.jitter_s * self.draw.random()
        return max(wait_s, line.broken_until_s - self.loop.time())

    def listen(self, address: str) -> Listener:
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.listeners[address] = Listener(self, PROCESS.get(), address)
        return self.listeners[address]

    async def connect(self, factory: Callable[[], Any], address: str) -> tuple[Transport, Any]:
        me = PROCESS.get()
        while True:
            listener = self.listeners.get(address)
            owner = address.partition(":")[0] if listener is None else listener.owner
            await asyncio.sleep(self.flight_s(me, owner))
            listener = self.listeners.get(address)
            if listener is None:
                await asyncio.sleep(self.flight_s(owner, me))
                raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
            there = Transport(self, listener.owner, me)
            here = Transport(self, me, listener.owner)
            here.peer, there.peer = there, here
            self.transports += (here, there)
            listener.arrived.append(there)
            listener.watch.look()
            try:
                await asyncio.sleep(self.flight_s(owner, me))
            except BaseException:
                here.abort()
                raise
            self.note("connect", me, owner)
            here.attach(factory())
            return here, here.protocol

    # --- faults -------------------------------------------------------------------------------------------------

    def break_line(self, one: str, other: str, seconds: float) -> None:
        """Nothing passes for so long; then all of it does, as TCP sends it again."""
        line = self.line(one, other)
        line.broken_until_s = max(line.broken_until_s, self.loop.time() + seconds)

    def reset(self, one: str, other: str) -> None:
        """Every connection between the two is reset, at both ends."""
        for transport in [each for each in self.transports if {each.owner, each.other} == {one, other}]:
            transport.reset_soon()

    def kill(self, name: str, *, told: bool) -> None:
        """A process is gone. Its kernel tells the peers, unless the host is gone too."""
        for address, listener in list(self.listeners.items()):
            if listener.owner == name:
                listener.close()
                self.listeners.pop(address, None)
        for transport in [each for each in self.transports if each.owner == name]:
            transport.vanish(told=told)


class Transport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, owner: str, other: str) -> None:
        super().__init__()
        self.owner, self.other = owner, other
        self.peer: Transport
        self.protocol: Any = None
        self._network, self._loop = network, network.loop
        self._context: Context = copy_context()
        self._context.run(PROCESS.set, owner)
        self._out: deque[bytes] = deque()  # written, and not sent yet
        self._out_bytes = 0
        self._flight_bytes = 0  # sent, and not read by the peer
        self._flight: deque[bytes | None] = deque()  # None is the end
        self._last_s = 0.0  # when the last of these arrives
        self._inbox: deque[bytes] = deque()
        self._finished = False  # the peer will send no more
        self._reading = True
        self._closing = self._lost = self._eof_wanted = self._eof_sent = False
        self._gone = False  # its process is
        self._high = 1 << 16
        self._paused = False
        self._error: Exception | None = None  # that ended it
        self.watch = Watch(self._loop)

    # --- asyncio's interface ------------------------------------------------------------------------------------

    def attach(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.connection_made(self)
        if self._lost:  # before somebody looked
            self._soon(protocol.connection_lost, self._error)
        elif self._inbox or self._finished:
            self._soon(self._feed)

    @property
    def readable(self) -> bool:
        """Bytes are there, or the end."""
        return bool(self._inbox) or self._finished or self._lost

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self

    def setsockopt(self, *option: int) -> None: ...

    def setblocking(self, blocking: bool) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or self._high

    def get_write_buffer_size(self) -> int:
        return self._out_bytes

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        if self._inbox or self._finished:
            self._soon(self._feed)

    def write(self, data: Any) -> None:
        assert not self._eof_wanted, "written behind the end"
        if self._closing or self._gone or not data:
            return
        self._out.append(bytes(data))
        self._out_bytes += len(data)
        self._send()
        if self._out_bytes > self._high and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def write_eof(self) -> None:
        self._eof_wanted = True
        self._send()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._end_if_sent()

    def abort(self) -> None:
        self._drop(None)

    # --- sending ------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        while self._out and self._flight_bytes < WINDOW:
            data = self._out.popleft()
            if len(data) > PIECE:
                self._out.appendleft(data[PIECE:])
                data = data[:PIECE]
            self._out_bytes -= len(data)
            self._flight_bytes += len(data)
            self._fly(data)
        if self._paused and self._out_bytes <= self._high // 4:
            self._paused = False
            self.protocol.resume_writing()
        if not self._out and self._eof_wanted and not self._eof_sent:
            self._eof_sent = True
            self._fly(None)
        if self._closing:
            self._end_if_sent()

    def _fly(self, data: bytes | None) -> None:
        self._flight.append(data)
        self._last_s = max(self._last_s, self._loop.time() + self._network.flight_s(self.owner, self.other))
        self._loop.call_at(self._last_s, self._land, context=self.peer._context)

    def _land(self) -> None:
        """At the peer."""
        if not self._flight:
            return  # lost
        line = self._network.line(self.owner, self.other)
        if line.broken_until_s > self._loop.time():
            self._last_s = max(self._last_s, line.broken_until_s)
            self._loop.call_at(line.broken_until_s, self._land, context=self.peer._context)
            return
        data, peer = self._flight.popleft(), self.peer
        if peer._lost:
            if data is not None and not peer._gone:
                self.reset_soon()  # bytes for a socket that is closed
            return
        if data is None:
            peer._finished = True
        else:
            peer._inbox.append(data)
        if peer.protocol is not None:
            peer._feed()
        else:
            peer.watch.look()

    # --- receiving ----------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        while self._inbox and self._reading and not self._closing:
            data = self._inbox.popleft()
            buffer = self.protocol.get_buffer(-1)
            count = min(len(buffer), len(data))
            if count > 1 and self._network.draw.random() < 0.02:
                count = 1 + int(self._network.draw.random() * (count - 1))
            if count < len(data):
                self._inbox.appendleft(data[count:])
            buffer[:count] = data[:count]
            self.peer._flight_bytes -= count
            if self.peer._out and not self.peer._lost:
                self.peer._soon(self.peer._send)
            self.protocol.buffer_updated(count)
        if self._finished and not self._inbox and self._reading and not self._closing:
            self._finished = False
            if not self.protocol.eof_received():
                self.close()

    # --- the end ------------------------------------------------------------------------------------------------

    def reset_soon(self) -> None:
        self._soon(self._drop, ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def vanish(self, *, told: bool) -> None:
        """Our process is gone: nothing that it does reaches anybody any more."""
        self._gone = True
        self._out.clear()
        self._out_bytes = 0
        if not told:
            self._flight.clear()  # else the kernel sends what it has, and the reset follows
        elif not self._lost:
            self._reset_peer()
        self._drop(None)

    def _soon(self, call: Callable[..., None], *args: Any) -> None:
        self._loop.call_soon(call, *args, context=self._context)

    def _reset_peer(self) -> None:
        self._last_s = max(self._last_s, self._loop.time() + self._network.flight_s(self.owner, self.other))
        error = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        self._loop.call_at(self._last_s, self.peer._drop, error, context=self.peer._context)

    def _end_if_sent(self) -> None:
        if not self._out and not self._lost:
            self._drop(None)

    def _drop(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        self._error = error
        self._network.transports.remove(self)
        self._network.note("lost" if error is None else "reset", self.owner, self.other)
        self._out.clear()
        self._out_bytes = 0
        unread, self._inbox = bool(self._inbox), deque()
        if not self._gone:
            if unread and error is None:
                self._reset_peer()
            elif not self._eof_sent:
                self._eof_sent = True
                self._fly(None)
        if self.protocol is not None:
            self._soon(self.protocol.connection_lost, error)
        else:
            self.watch.look()
