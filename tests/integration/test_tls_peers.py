"""Who may speak over TLS, and every way a stranger or a broken peer can be wrong."""

import asyncio
import contextlib
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from limits import LIMIT_S
from sockets import Place, both_loops, close, frame, receive_bytes, until

import mpcnet.transport.tls
from mpcnet.errors import (
    ChannelClosed,
    RemoteAbort,
    RemoteIdentityError,
    RemoteProtocolError,
)
from mpcnet.launch.deployment.certs import create_deployment
from mpcnet.transport.channel import abort_header
from mpcnet.transport.tls import Identity, Roster, dial, parse_address
from mpcnet.transport.wire import PREFIX, Header, Stage, encode

pytestmark = both_loops


async def test_another_authority(place: Place, tmp_path: Path) -> None:
    create_deployment(tmp_path, ["server1"])
    stranger = Identity.in_folder(tmp_path / "server1")
    with pytest.raises(RemoteIdentityError, match=r"server0 at .*its certificate is refused"):
        await place.dial(identity=stranger)
    assert "refuses our certificate" in str(await place.refused.get())
    trusting = Identity(place.identity("server1").ca, stranger.certificate, stranger.key)
    with pytest.raises(RemoteIdentityError, match="it refuses our certificate"):
        await place.dial(identity=trusting)
    assert "its certificate is refused" in str(await place.refused.get())
    await close(*await place.pair())  # the listener goes on


@pytest.mark.parametrize("days", [-2, 2], ids=["expired", "not yet valid"])
async def test_out_of_its_time(tmp_path: Path, days: int) -> None:
    start = datetime.now(UTC) + timedelta(days=days)
    create_deployment(tmp_path, ["server0", "server1"], not_before=start, not_after=start + timedelta(days=1))
    place = Place(tmp_path)
    await place.start()
    words = "has expired; it needs a new one" if days < 0 else "not yet valid; ours is the wrong clock, or that of who"
    with pytest.raises(RemoteIdentityError, match=words):
        await place.dial()
    assert isinstance(await place.refused.get(), RemoteIdentityError)
    await place.server.close()


async def test_right_authority_wrong_role(place: Place) -> None:
    with pytest.raises(RemoteAbort, match="want role client or server1, got certificate of dealer"):
        await place.dial("dealer")
    assert "got certificate of dealer" in str(await place.refused.get())
    with pytest.raises(RemoteIdentityError, match="want role dealer, got certificate of server0"):
        await place.dial(expected_role="dealer")
    b = await place.channels.get()
    with pytest.raises(RemoteAbort, match="want role dealer"):
        await receive_bytes(b)


async def test_fingerprint_that_is_not_pinned(place: Place) -> None:
    pins = dict(place.roster.fingerprints)
    with pytest.raises(RemoteIdentityError, match="want certificate or key 0000000000000000"):
        await place.dial(roster=Roster(pins | {"server0": ["0" * 64]}))
    b = await place.channels.get()
    with pytest.raises(RemoteAbort):
        await receive_bytes(b)
    place.roster.fingerprints["server1"] = ["0" * 64]  # type: ignore[index]
    with pytest.raises(RemoteAbort, match="want certificate or key 0000000000000000"):
        await place.dial(roster=Roster(pins))


async def test_named_clients_are_clients(place: Place) -> None:
    a, b = await place.pair(identity=place.identity("client-alice"))
    assert b.peer == "client:alice"
    await close(a, b)


async def test_no_certificate_at_all(place: Place) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = parse_address(place.server.address)
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    with contextlib.suppress(ssl.SSLError, OSError):
        await reader.read()
    writer.close()
    assert "no certificate" in str(await place.refused.get())


async def test_tls_1_2_is_refused(place: Place) -> None:
    context = place.identity("server1").context(server_side=False)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, port = parse_address(place.server.address)
    with pytest.raises((ssl.SSLError, OSError)):
        await asyncio.open_connection(host, port, ssl=context)
    assert isinstance(await place.refused.get(), RemoteProtocolError)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", os.urandom(0) + bytes(range(256)) * 40, b""])
async def test_listener_survives_garbage(place: Place, garbage: bytes) -> None:
    reader, writer = await asyncio.open_connection(*parse_address(place.server.address))
    writer.write(garbage)
    writer.write_eof()
    assert isinstance(await place.refused.get(), RemoteProtocolError if garbage else ChannelClosed)
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()
    await close(*await place.pair())


async def test_dialling_something_else(place: Place) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        address = f"127.0.0.1:{other.sockets[0].getsockname()[1]}"
        with pytest.raises(RemoteProtocolError, match="not our TLS"):
            await dial(address, place.identity("server1"), place.roster, "server0", LIMIT_S)


async def test_a_silent_stranger_is_dropped(deployment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpcnet.transport.tls, "GREETING_S", 0.05)
    place = Place(deployment)
    await place.start()
    _, writer = await asyncio.open_connection(*parse_address(place.server.address))
    assert "no greeting within 0.05 s" in str(await place.refused.get())
    writer.close()
    await place.server.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not a frame at all, but long enough", "wrong magic"),
        (PREFIX.pack(b"MPCN", 1, 0, 2**31, 0), "header length"),
        (PREFIX.pack(b"MPCN", 1, 0, 10, 2**60), "payload length"),
        (PREFIX.pack(b"MPCN", 1, 0, 4, 2**40) + b"\x80\x80\x80\x80", "not msgpack"),
    ],
)
async def test_bytes_that_are_not_frames(place: Place, data: bytes, words: str) -> None:
    reader, writer = await place.raw()
    b = await place.channels.get()
    writer.write(data)
    with pytest.raises(RemoteProtocolError, match=words):
        await receive_bytes(b)
    told = await reader.read()
    assert words.encode() in told and b"abort" in told
    writer.close()
    await b.close()


@pytest.mark.parametrize("cut", [5, 40, 200])
@pytest.mark.parametrize("how", ["abort", "close"])
async def test_peer_dies_in_the_midst_of_a_frame(place: Place, cut: int, how: str) -> None:
    _, writer = await place.raw()
    b = await place.channels.get()
    writer.write((encode(frame(1000)) + bytes(1000))[:cut])
    receiving = asyncio.ensure_future(receive_bytes(b))
    await until(lambda: b._decoder.stage is not Stage.PREFIX or len(b._decoder.get_buffer()) < PREFIX.size)
    writer.transport.abort() if how == "abort" else writer.close()
    with pytest.raises(ChannelClosed, match="server1"):
        await receiving
    with pytest.raises(ChannelClosed):
        await b.send(frame(1), memoryview(b"x"))
    await b.close()


async def test_abort_frame_with_hostile_text(place: Place) -> None:
    _, writer = await place.raw()
    b = await place.channels.get()
    header = abort_header("x")
    writer.write(encode(Header(header.kind, header.session, label=header.label, fields={"reason": "a\n\x1b[2Jb" * 99})))
    with pytest.raises(RemoteAbort) as caught:
        await receive_bytes(b)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(caught.value.reason) <= 300
    writer.close()
