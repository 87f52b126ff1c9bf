"""Real sockets on the loopback: the good path, and every way a peer can be wrong. Both loops run all of it."""

import asyncio
import contextlib
import os
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop

import mpcnet.tls
from launch.certs import ROLES, create_deployment
from mpcnet.channel import abort_header, receive_control, send_control
from mpcnet.errors import (
    ChannelBusy,
    ChannelClosed,
    ChannelTimeout,
    LocalConfigError,
    LocalInputError,
    MpcError,
    RemoteAbort,
    RemoteIdentityError,
    RemoteMismatchError,
    RemoteProtocolError,
)
from mpcnet.mesh import Program, agree_seed, connect_mesh, handshake
from mpcnet.rounds import Part
from mpcnet.tls import Identity, Roster, Server, TlsChannel, dial, listen, parse_address
from mpcnet.wire import PREFIX, Header, Stage, encode

SESSION = bytes(range(16))
pytestmark = [pytest.mark.timeout(30), pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy")]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployment")
    create_deployment(folder, [*ROLES, "client:alice"])
    return folder


class Place:
    """One listener as server0, and what came of it."""

    def __init__(self, deployment: Path) -> None:
        self.folder = deployment
        self.roster = Roster.load(deployment / "server0" / "roster.json")
        self.channels: asyncio.Queue[TlsChannel] = asyncio.Queue()
        self.refused: asyncio.Queue[MpcError] = asyncio.Queue()
        self.server: Server

    def identity(self, role: str) -> Identity:
        return Identity.in_folder(self.folder / role)

    async def start(self, accept=("server1", "client"), **options) -> None:
        self.server = await listen(
            "127.0.0.1:0",
            self.identity("server0"),
            self.roster,
            accept,
            self.channels.put_nowait,
            on_refused=lambda where, error: self.refused.put_nowait(error),
            linger_s=0.2,
            **options,
        )

    async def dial(self, role: str = "server1", **changes) -> TlsChannel:
        options = {
            "identity": self.identity(role),
            "roster": self.roster,
            "expected_role": "server0",
            "timeout_s": 5.0,
            "linger_s": 0.2,
        } | changes
        return await dial(self.server.address, **options)

    async def pair(self, **options) -> tuple[TlsChannel, TlsChannel]:
        dialled = await self.dial(**options)
        return dialled, await self.channels.get()

    async def raw(self, role: str = "server1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A peer with a good certificate that does not keep to the protocol."""
        host, port = parse_address(self.server.address)
        context = self.identity(role).context(server_side=False)
        return await asyncio.open_connection(host, port, ssl=context)


@pytest.fixture
async def place(deployment: Path) -> AsyncIterator[Place]:
    place = Place(deployment)
    await place.start()
    yield place
    await place.server.close()
    while not place.channels.empty():
        place.channels.get_nowait().abort("test is over")


def frame(nbytes: int, sequence: int = 0) -> Header:
    return Header("round", SESSION, 0, sequence, "test", parts=(Part(8, (nbytes,)),))


async def receive_bytes(channel: TlsChannel) -> tuple[Header, bytes]:
    memory = bytearray()

    def expect(header: Header) -> memoryview:
        memory.extend(bytes(header.payload_bytes))
        return memoryview(memory)

    return await channel.receive(expect), bytes(memory)


async def until(ready: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    while not ready():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def close(*channels: TlsChannel) -> None:
    await asyncio.gather(*(channel.close() for channel in channels))


async def test_ten_megabytes_both_ways_at_once(place: Place) -> None:
    a, b = await place.pair()
    assert (a.peer, b.peer) == ("server0", "server1")
    before = a.sent_bytes, b.sent_bytes
    data = [os.urandom(10_000_000) for _ in range(2)]
    split = memoryview(data[0])[:3], memoryview(data[0])[3:3], memoryview(data[0])[3:]
    _, _, got_a, got_b = await asyncio.gather(
        a.send(frame(10_000_000), *split),
        b.send(frame(10_000_000), memoryview(data[1])),
        receive_bytes(a),
        receive_bytes(b),
    )
    assert got_a[1] == data[1] and got_b[1] == data[0]
    size = len(encode(frame(10_000_000))) + 10_000_000
    assert a.sent_bytes - before[0] == b.sent_bytes - before[1] == size
    assert a.sent_bytes == b.received_bytes and b.sent_bytes == a.received_bytes
    await close(a, b)


async def test_frames_of_all_sizes_in_order_and_concurrent_senders_do_not_mix(place: Place) -> None:
    a, b = await place.pair()
    sizes = [0, 1, 7, 4096, 65_536, 70_000, 300_000, 0, 2_500_000]
    data = [bytes([index]) * size for index, size in enumerate(sizes)]
    sending = asyncio.gather(*(a.send(frame(len(d), i), memoryview(d)) for i, d in enumerate(data)))
    for index, expected in enumerate(data):
        assert await receive_bytes(b) == (frame(len(expected), index), expected)
    await sending
    await close(a, b)


async def test_a_repeated_frame_is_visible_by_its_sequence(place: Place) -> None:
    a, b = await place.pair()
    for _ in range(2):
        await a.send(frame(4, 7), memoryview(b"once"))
    assert [(await receive_bytes(b))[0].sequence for _ in range(2)] == [7, 7]
    await close(a, b)


@pytest.mark.parametrize("size", [1, 100_000, 5_000_000])
async def test_close_never_loses_the_last_frame(place: Place, size: int) -> None:
    """Nor if the closing side leaves frames of its peer unread, which resets a naive socket."""
    a, b = await place.pair()
    await b.send(frame(1000), memoryview(bytes(1000)))

    async def last() -> None:
        await a.send(frame(size, 9), memoryview(b"z" * size))
        await a.close()

    _, got = await asyncio.gather(last(), receive_bytes(b))
    assert got == (frame(size, 9), b"z" * size)
    with pytest.raises(ChannelClosed):
        await receive_bytes(b)
    await b.close()


async def test_unread_peer_is_bounded_and_the_sender_waits(place: Place) -> None:
    a, b = await place.pair(channel_timeout_s=0.3)
    size = 30_000_000  # over what the kernel's two socket buffers hold
    with pytest.raises(ChannelTimeout, match=r"server0 to take our frames"):
        await a.send(frame(size), memoryview(bytes(size)))
    assert b._tls._incoming.pending <= 256 * 1024
    b.abort("test is over")


async def test_abort_reason_arrives_even_if_nobody_waits(place: Place) -> None:
    a, b = await place.pair()
    a.abort("round 7: want 3 parts, got 2")
    with pytest.raises(RemoteAbort, match="server1 aborted: round 7: want 3 parts, got 2"):
        await receive_bytes(b)
    with pytest.raises(RemoteAbort):
        await b.send(frame(1), memoryview(b"x"))
    await close(a, b)


async def test_abort_overtakes_no_frame(place: Place) -> None:
    a, b = await place.pair()
    await a.send(frame(3), memoryview(b"abc"))
    a.abort("enough")
    assert (await receive_bytes(b))[1] == b"abc"
    with pytest.raises(RemoteAbort, match="enough"):
        await receive_bytes(b)
    await close(a, b)


async def test_expect_may_refuse_and_the_peer_is_told(place: Place) -> None:
    a, b = await place.pair()

    def refuse(header: Header) -> memoryview:
        raise RemoteProtocolError("server1, round 3: want 8 bytes, got 4")

    await a.send(frame(4), memoryview(b"abcd"))
    with pytest.raises(RemoteProtocolError) as caught:
        await b.receive(refuse)
    b.abort(str(caught.value))
    with pytest.raises(RemoteAbort, match="want 8 bytes, got 4"):
        await receive_bytes(a)
    await close(a, b)


async def test_wrong_memory_is_our_fault(place: Place) -> None:
    a, b = await place.pair()
    await a.send(frame(4), memoryview(b"abcd"))
    with pytest.raises(LocalInputError, match="want 4 writable bytes, got 3"):
        await b.receive(lambda header: memoryview(bytearray(3)))
    a.abort("over")
    await close(a, b)


async def test_timeout_of_receive_says_who_and_how_long_and_tells_the_peer(place: Place) -> None:
    a, b = await place.pair(channel_timeout_s=0.05)
    with pytest.raises(ChannelTimeout, match=r"waited 0.05 s for server0 to send a frame"):
        await receive_bytes(a)
    with pytest.raises(RemoteAbort, match=r"waited 0\.05 s"):
        await receive_bytes(b)
    await close(a, b)


async def test_cancelled_receive_leaves_the_callers_memory_alone(place: Place) -> None:
    _, writer = await place.raw()
    b = await place.channels.get()
    writer.write(encode(frame(1000)) + bytes(10))
    receiving = asyncio.ensure_future(receive_bytes(b))
    await until(lambda: b._decoder.stage is Stage.PAYLOAD)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    with pytest.raises(ChannelClosed, match="cut off"):
        await receive_bytes(b)
    writer.transport.abort()


# --- identities -----------------------------------------------------------------------------------------------


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
    words = "expired" if days < 0 else "not yet valid"
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
    with pytest.raises(RemoteIdentityError, match="want certificate 0000000000000000"):
        await place.dial(roster=Roster(pins | {"server0": "0" * 64}))
    b = await place.channels.get()
    with pytest.raises(RemoteAbort):
        await receive_bytes(b)
    place.roster.fingerprints["server1"] = "0" * 64  # type: ignore[index]
    with pytest.raises(RemoteAbort, match="want certificate 0000000000000000"):
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


# --- hostile and broken peers ---------------------------------------------------------------------------------


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
            await dial(address, place.identity("server1"), place.roster, "server0", 5.0)


async def test_a_silent_stranger_is_dropped(deployment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpcnet.tls, "GREETING_S", 0.05)
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


# --- listening and dialling -----------------------------------------------------------------------------------


async def test_port_in_use(place: Place) -> None:
    with pytest.raises(ChannelBusy, match=r"cannot listen on 127\.0\.0\.1:\d+: the port is in use"):
        await listen(place.server.address, place.identity("server0"), place.roster, ["server1"], print)


async def test_dial_waits_for_the_listener_and_says_why(deployment: Path) -> None:
    place, waits = Place(deployment), []
    await place.start()
    address = place.server.address
    await place.server.close()

    async def late() -> None:
        await until(lambda: len(waits) >= 2)
        place.server = await listen(
            address, place.identity("server0"), place.roster, ["server1"], place.channels.put_nowait
        )

    identity = place.identity("server1")
    channel, _ = await asyncio.gather(
        dial(address, identity, place.roster, "server0", 10.0, on_wait=lambda *words: waits.append(words)), late()
    )
    assert waits[0] == ("server0", address, "Connection refused")
    await close(channel, await place.channels.get())
    await place.server.close()
    with pytest.raises(ChannelTimeout, match=r"waited 0.1 s for server0 at .*Connection refused; is it running\?"):
        await dial(address, identity, place.roster, "server0", 0.1)


@pytest.mark.parametrize("text", ["", "host", "host:", ":80", "host:x", "host:70000", "host:-1"])
def test_addresses(text: str) -> None:
    with pytest.raises(LocalConfigError):
        parse_address(text)


def test_address_with_brackets() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)


# --- mesh -----------------------------------------------------------------------------------------------------


async def free_address() -> str:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"127.0.0.1:{port}"


async def join(place: Place, role: str, addresses: dict[str, str], digest: bytes = bytes(32), **options):
    options = {"timeout_s": 5.0} | options
    return await connect_mesh(role, addresses, place.identity(role), place.roster, Program(digest), **options)


async def test_mesh_of_three_with_a_guest(deployment: Path) -> None:
    place, roles = Place(deployment), ("server0", "server1", "dealer")
    addresses = {role: await free_address() for role in roles}
    guests: dict[str, asyncio.Queue] = {role: asyncio.Queue() for role in roles}
    joining = (join(place, role, addresses, on_guest=guests[role].put_nowait) for role in roles)
    meshes = dict(zip(roles, await asyncio.gather(*joining), strict=True))
    for role, mesh in meshes.items():
        assert set(mesh.peers) == set(roles) - {role}
        for other, peer in mesh.peers.items():
            assert peer.session == meshes[other].peers[role].session
    ends = meshes["dealer"].peers["server0"], meshes["server0"].peers["dealer"]
    seeds = await asyncio.gather(*(agree_seed(peer, "masks") for peer in ends))
    assert seeds[0] == seeds[1]

    async def host(role: str):
        return await handshake(await guests[role].get(), role, Program(bytes(32)))

    client, *hosts = await asyncio.gather(join(place, "client", addresses), host("server0"), host("server1"))
    assert [peer.name for peer in hosts] == ["client", "client"]
    assert [peer.session for peer in hosts] == [client.peers[role].session for role in ("server0", "server1")]
    again = await dial(addresses["server0"], place.identity("server1"), place.roster, "server0", 5.0)
    with pytest.raises(RemoteAbort, match="no place for server1"):
        await receive_bytes(again)
    await asyncio.gather(*(mesh.close() for mesh in (*meshes.values(), client)), *(p.channel.close() for p in hosts))


async def test_mesh_with_another_program_fails_on_both_sides(deployment: Path) -> None:
    place = Place(deployment)
    addresses = {role: await free_address() for role in ("server0", "server1", "dealer")}
    results = await asyncio.gather(
        join(place, "server0", addresses, timeout_s=1.0),
        join(place, "server1", addresses, timeout_s=1.0, digest=b"\x01" * 32),
        join(place, "dealer", addresses, timeout_s=1.0),
        return_exceptions=True,
    )
    assert all(isinstance(result, MpcError) for result in results)
    assert isinstance(results[1], RemoteMismatchError)
    assert "program: ours 0101010101010101..., theirs 0000000000000000..." in str(results[1])


async def test_mesh_waits_for_who_is_to_dial(deployment: Path) -> None:
    place = Place(deployment)
    addresses = {"dealer": await free_address()}
    with pytest.raises(ChannelTimeout, match=r"waited 0.05 s for server0 to dial dealer"):
        await join(place, "dealer", addresses, timeout_s=0.05)
    with pytest.raises(LocalConfigError, match="our certificate says dealer"):
        await connect_mesh("server0", addresses, place.identity("dealer"), place.roster, Program(bytes(32)), 1.0)


# --- certificates ---------------------------------------------------------------------------------------------


def test_deployment_gives_each_role_what_it_needs(deployment: Path) -> None:
    for role in (*ROLES, "client-alice"):
        files = sorted(path.name for path in (deployment / role).iterdir())
        assert files == ["ca.pem", "cert.pem", "key.pem", "roster.json"]
        assert stat.S_IMODE((deployment / role / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((deployment / "authority" / "ca-key.pem").stat().st_mode) == 0o600
    assert Identity.in_folder(deployment / "client-alice").role() == "client:alice"


def test_deployment_is_not_overwritten_and_roles_are_known(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match="exists already"):
        create_deployment(deployment)
    for roles in (["server2"], ["dealer", "dealer"]):
        with pytest.raises(LocalConfigError, match="roles of the deployment"):
            create_deployment(tmp_path, roles)


def test_broken_files_of_a_deployment(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match=r"cert\.pem: No such file"):
        Identity.in_folder(tmp_path).role()
    mixed = Identity(deployment / "owner/ca.pem", deployment / "owner/cert.pem", deployment / "dealer/key.pem")
    with pytest.raises(LocalConfigError, match="KEY_VALUES_MISMATCH"):
        mixed.context(server_side=True)
    for text in ("", "[]", '{"version": 2, "roles": {}}', '{"version": 1, "roles": {"server0": "abc"}}'):
        (tmp_path / "roster.json").write_text(text)
        with pytest.raises(LocalConfigError):
            Roster.load(tmp_path / "roster.json")


async def test_both_loops_are_run(request: pytest.FixtureRequest) -> None:
    loop = type(asyncio.get_running_loop()).__module__
    assert loop.startswith("uvloop") == ("uvloop" in request.node.name)


async def test_control_frames_travel(place: Place) -> None:
    a, b = await place.pair()
    _, got = await asyncio.gather(send_control(a, SESSION, "ready", batch=3), receive_control(b, "ready", SESSION))
    assert got.fields == {"batch": 3}
    await close(a, b)
