"""The probes' two ends over plain TCP: echoes for the round-trip time, a flood and whoever drains it for goodput.

A listener serves one connection after the other; the first byte of each says what it is for. Nothing but the standard
library is imported, so that a probe's process is there at once.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ECHO, DRAIN, FLOOD, END = b"e", b"d", b"f", b"q"
SMALL = bytes(64)
CHUNK = 256 * 1024  # bytes handed to the kernel at once
WARM_ECHOES, ECHOES = 3, 25
TIMEOUT_S = 60.0  # far above what a probe takes
RATE = struct.Struct(">d")
SETTINGS = Path("/proc/sys/net/ipv4")


@dataclass(frozen=True, slots=True)
class Flood:
    """How long one direction is filled: a start that is not counted, then what is. Seconds."""

    warm_s: float
    span_s: float

    WIRE = struct.Struct(">dd")


def flood_for(rtt_s: float) -> Flood:
    """Long enough for TCP's start, which doubles its window each round trip, and for a steady state behind it."""
    return Flood(0.4 + 15 * rtt_s, 0.8 + 5 * rtt_s)


def listen(host: str) -> None:
    """Say the port, then serve until told to end."""
    with socket.create_server((host, 0)) as listener:
        listener.settimeout(TIMEOUT_S)
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        what = b""
        while what != END:
            connection, _ = listener.accept()
            with connection:
                _prepare(connection)
                what = _exactly(connection, 1)
                _serve(connection, what)


def _serve(connection: socket.socket, what: bytes) -> None:
    if what == ECHO:
        with contextlib.suppress(EOFError):
            while True:
                connection.sendall(_exactly(connection, len(SMALL)))
    elif what in (DRAIN, FLOOD):
        flood = Flood(*Flood.WIRE.unpack(_exactly(connection, Flood.WIRE.size)))
        if what == FLOOD:
            _flood(connection, flood)
        else:
            connection.sendall(RATE.pack(_drain(connection, flood)))


def dial(host: str, port: int, rtt_s: float) -> dict[str, object]:
    """Probe a listener: round-trip times in seconds, goodput from it and to it in bits per second, TCP's settings."""
    flood = flood_for(rtt_s)
    found = {
        "round_trips_s": _echoes(host, port),
        "goodput_bps": _back(host, port, flood),
        "goodput_back_bps": _there(host, port, flood),
        **tcp_settings(),
    }
    _connect(host, port, END).close()
    return found


def tcp_settings() -> dict[str, object]:
    """What TCP does in the calling process's namespace."""
    return {
        "congestion_control": (SETTINGS / "tcp_congestion_control").read_text().strip(),
        "slow_start_after_idle": (SETTINGS / "tcp_slow_start_after_idle").read_text().strip() == "1",
    }


def _echoes(host: str, port: int) -> list[float]:
    seconds = []
    with _connect(host, port, ECHO) as connection:
        for _ in range(WARM_ECHOES + ECHOES):
            start_s = time.perf_counter()
            connection.sendall(SMALL)
            _exactly(connection, len(SMALL))
            seconds.append(time.perf_counter() - start_s)
    return seconds[WARM_ECHOES:]


def _there(host: str, port: int, flood: Flood) -> float:
    with _connect(host, port, DRAIN + Flood.WIRE.pack(flood.warm_s, flood.span_s)) as connection:
        _flood(connection, flood)
        rate: float = RATE.unpack(_exactly(connection, RATE.size))[0]
        return rate


def _back(host: str, port: int, flood: Flood) -> float:
    with _connect(host, port, FLOOD + Flood.WIRE.pack(flood.warm_s, flood.span_s)) as connection:
        return _drain(connection, flood)


def _connect(host: str, port: int, greeting: bytes) -> socket.socket:
    connection = socket.create_connection((host, port), TIMEOUT_S)
    _prepare(connection)
    connection.sendall(greeting)
    return connection


def _prepare(connection: socket.socket) -> None:
    connection.settimeout(TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _flood(connection: socket.socket, flood: Flood) -> None:
    """Send for as long as the other end drains, and a little more; then end this direction."""
    chunk = bytes(CHUNK)
    end_s = time.perf_counter() + flood.warm_s + 1.1 * flood.span_s
    while time.perf_counter() < end_s:
        connection.sendall(chunk)
    connection.shutdown(socket.SHUT_WR)


def _drain(connection: socket.socket, flood: Flood) -> float:
    """Bits per second that arrive in the span behind the start; what comes later is read and not counted."""
    buffer = bytearray(4 * CHUNK)
    nbytes = connection.recv_into(buffer)
    start_s = time.perf_counter() + flood.warm_s
    first_s = last_s = 0.0
    total = 0
    while nbytes:
        now_s = time.perf_counter()
        if not first_s:
            first_s = now_s if now_s >= start_s else 0.0
        elif now_s <= start_s + flood.span_s:
            total, last_s = total + nbytes, now_s
        nbytes = connection.recv_into(buffer)
    return 8 * total / (last_s - first_s) if total else 0.0


def _exactly(connection: socket.socket, nbytes: int) -> bytes:
    """:raises EOFError: the other end ended first."""
    data = b""
    while len(data) < nbytes:
        piece = connection.recv(nbytes - len(data))
        if not piece:
            raise EOFError(f"the probe's connection ended {nbytes - len(data)} bytes early")
        data += piece
    return data


def main(what: str, host: str, *arguments: str) -> None:
    """`listen HOST` or `dial HOST PORT RTT_S`; prints JSON."""
    if what == "listen":
        listen(host)
    else:
        port, rtt_s = arguments
        print(json.dumps(dial(host, int(port), float(rtt_s))))


if __name__ == "__main__":
    main(*sys.argv[1:])
