"""Masks and dealt values: both ends agree, nothing is drawn twice, the dealer sees shapes only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from checks import few
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.errors import RemoteProtocolError
from mpcnet.protocols.gelu import gelu
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.randomness.dealer import Corrections, DealerSource, deal
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.randomness.source import Balance, PlainSource, Secret, ServerSource, Tape, carry
from mpcnet.rounds import Done, Part, advance

HASHES = Hashes.of(b"session", 1)


def keystream(party: int) -> Keystream:
    return Keystream(bytes([party]) * 32, Domain(b"session", 1, "test"), Guard())


def server(party: int) -> ServerSource:
    return ServerSource(party, keystream(party), keystream(2), HASHES)


def parties() -> tuple[DealerSource, list[ServerSource]]:
    return DealerSource((keystream(0), keystream(1)), HASHES), [server(i) for i in (0, 1)]


def load(dealer: DealerSource, servers: list[ServerSource]) -> None:
    for server, sent in zip(servers, dealer.take(), strict=True):
        payload = np.concatenate([c.payload for c in sent]) if sent else None
        server.tape = Tape(tuple(c.part for c in sent), payload)


@few
@given(st.integers(1, 64), st.lists(st.integers(0, 5), max_size=3))
def test_a_mask_is_the_sum_of_the_servers_shares(bits: int, shape: list[int]) -> None:
    dealer, servers = parties()
    known, shares = dealer.mask(shape, bits), [server.mask(shape, bits) for server in servers]
    assert known.plain is not None
    assert known.share.device.type == "meta"
    assert all(share.plain is None and share.first is None for share in shares)
    assert torch.equal(ring.reduce(known.plain, bits), ring.add_opened(shares[0].share, shares[1].share, bits))
    if bits < 64:
        assert known.first is not None
        first, second, total = (ring.unsigned(x, bits) for x in (known.first, shares[1].share, known.plain))
        assert torch.equal(first + second - (carry(known.plain, known.first, bits).to(torch.int64) << bits), total)


@few
@given(st.integers(1, 64), st.lists(st.integers(0, 5), max_size=3), st.integers(1, 4))
def test_a_dealt_value_is_shared_between_the_servers(bits: int, shape: list[int], times: int) -> None:
    def cube(r: Tensor) -> Tensor:
        return ring.pack_bits(r * r * r & 1) if bits == 1 else r * r * r

    dealer, servers = parties()
    masks = [source.mask(shape, 64) for source in (dealer, *servers)]
    cubes = [dealer.deal(cube, masks[:1], shape, bits, "cube") for _ in range(times)]
    load(dealer, servers)
    assert masks[0].plain is not None
    want = ring.reduce(cube(masks[0].plain), bits)
    for known in cubes:
        shares = [s.deal(_unused, (m,), shape, bits, "cube").share for s, m in zip(servers, masks[1:], strict=True)]
        assert torch.equal(ring.add_opened(*shares, bits), want)
        assert known.plain is not None
        assert torch.equal(ring.reduce(known.plain, bits), want)
    for server in servers:
        server.tape.finish()


def _unused(*_: Tensor) -> Tensor:
    raise AssertionError("a server must not evaluate the dealer's function")


def test_a_server_cannot_evaluate_a_function_of_secrets() -> None:
    secret = server(0).mask([2], 8)
    with pytest.raises(ValueError, match="only the dealer"):
        PlainSource().deal(lambda r: r, (secret,), [2], 8, "x")


def test_the_receiver_alternates_by_bytes() -> None:
    balance = Balance()
    assert [balance.receiver(n) for n in (8, 3, 3, 3, 2, 0)] == [1, 0, 0, 0, 1, 0]


def test_secrets_have_no_representation() -> None:
    source = PlainSource()
    for value in (source.mask([3], 8), server(0), Tape(), parties()[0]):
        assert "tensor" not in repr(value)
        assert "Keystream" not in repr(value)


def correction(part: Part) -> np.ndarray[Any, Any]:
    return np.zeros(part.nbytes, np.uint8)


class TestTape:
    want = Part(24, (2, 3), "layer0/gelu")

    @pytest.mark.parametrize(
        "got", [Part(24, (3, 2)), Part(24, (6,)), Part(24, (2, 3, 1)), Part(23, (2, 3)), Part(32, (2, 3))]
    )
    def test_another_shape_or_width(self, got: Part) -> None:
        shown = rf"layer0/gelu: want .*24 bits x \[2, 3\] from the dealer, got {got.bits} bits"
        with pytest.raises(RemoteProtocolError, match=shown):
            Tape((got,), correction(got)).take(self.want)

    def test_nothing(self) -> None:
        with pytest.raises(RemoteProtocolError, match="got nothing"):
            Tape().take(self.want)
        tape = Tape((self.want,), correction(self.want))
        tape.take(self.want)
        with pytest.raises(RemoteProtocolError, match="got nothing"):
            tape.take(self.want)

    def test_a_header_without_payload(self) -> None:
        with pytest.raises(RemoteProtocolError):
            Tape((self.want,), None).take(self.want)

    def test_more_than_the_segment_uses(self) -> None:
        tape = Tape((self.want, self.want), np.concatenate([correction(self.want)] * 2))
        tape.take(self.want)
        with pytest.raises(RemoteProtocolError, match="sent 2 corrections for a segment that uses 1"):
            tape.finish()

    def test_the_label_is_ours_alone(self) -> None:
        tape = Tape((Part(24, (2, 3), "other"),), correction(self.want))
        assert tape.take(self.want).shape == (2, 3)
        tape.finish()

    def test_in_order(self) -> None:
        parts = (Part(8, (2,)), Part(1, (9,)), Part(20, ()))
        tape = Tape(parts, np.arange(7, dtype=np.uint8))
        assert tape.take(parts[0]).tolist() == [0, 1]
        bits = tape.take(parts[1])
        assert bits.tolist() == [2, 3]
        assert ring.unpack_bits(bits, (9,)).tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 1]
        assert int(tape.take(parts[2])) == 4 + (5 << 8) + (6 << 16)


def build(p: Party, x: Shared) -> Any:
    return gelu(p, x, 40)


def test_the_dealer_never_sees_an_opening() -> None:
    """Whatever it computes on and whatever it is told is a shape, and what it emits depends on its seeds alone."""
    x = Shared(ring.zeros((50,), 24, "meta"), 24, 12, 0)
    dealer, again = parties()[0], parties()[0]
    expected = deal(lambda: build(Party(again), x), again)
    program = build(Party(dealer), x)
    reply: list[Tensor] | None = None
    emitted = 0
    while True:
        step = advance(program, reply)
        for sent, wanted in zip(dealer.take(), next(expected), strict=True):
            assert [(c.part, c.payload.tobytes()) for c in sent] == [(c.part, c.payload.tobytes()) for c in wanted]
            emitted += len(sent)
        if isinstance(step, Done):
            break
        assert all(value.device.type == "meta" for value in step.mine), "the dealer holds a share"
        reply = [ring.zeros(part.shape, part.bits, "meta") for part in step.parts]
    assert emitted > 5
    assert step.value.value.device.type == "meta"


class Recorder:
    """A keystream that remembers what was drawn from it."""

    def __init__(self, inner: Keystream, log: list[bytes]) -> None:
        self.inner, self.log = inner, log

    def words(self, shape: Sequence[int], bits: int) -> Tensor:
        drawn = self.inner.words(shape, bits)
        self.log.append(drawn.contiguous().numpy().tobytes())
        return drawn


class KeepingDealer(DealerSource):
    """Writes down what it sends."""

    def take(self) -> Corrections:
        taken = super().take()
        self.kept.extend(c.payload.tobytes() for sent in taken for c in sent)
        return taken


class RecordingSession(Session):
    """Servers and dealer whose every draw is written down, by owner and stream, and what the dealer sends."""

    def sources(self) -> tuple[tuple[ServerSource, ServerSource], DealerSource]:
        servers, dealer = super().sources()
        self.logs: dict[str, list[bytes]] = {name: [] for name in ("server0", "server1", "dealer0", "dealer1")}
        recorders = [Recorder(s, self.logs[f"dealer{i}"]) for i, s in enumerate(dealer.streams)]
        self.dealer = KeepingDealer(tuple(recorders), dealer.hashes)  # type: ignore[arg-type]
        self.dealer.kept = []
        for i, server in enumerate(servers):
            server.stream = Recorder(server.stream, self.logs[f"server{i}"])
        return servers, self.dealer


def test_what_the_dealer_sends_does_not_depend_on_the_inputs() -> None:
    kept = []
    for value in (0.0, 3.75, -100.0):
        session = RecordingSession(5)
        session.run(build, session.share(torch.full((50,), value), 24, 12))
        kept.append(session.dealer.kept)
    assert kept[0] == kept[1] == kept[2] != []


def test_every_keystream_position_is_drawn_once_and_by_both_ends_alike() -> None:
    session = RecordingSession(3)
    x = session.share(torch.linspace(-4, 4, 400), 24, 12)
    blocks: list[bytes] = []
    for stream in (1, 2):
        run = session.run(build, x)
        masks = sum(opened.numel() * opened.element_size() for _, opened in run.opened)
        for i in (0, 1):
            drawn = session.logs[f"server{i}"]
            assert drawn == session.logs[f"dealer{i}"]
            joined = b"".join(drawn)
            assert len(joined) > masks
            whole = session.keystream(f"server{i}", stream, Guard())
            assert joined == whole.raw(len(joined)).tobytes(), "draws skip or repeat positions"
            blocks += [joined[k : k + 16] for k in range(0, len(joined) - 15, 16)]
    assert len(set(blocks)) == len(blocks) > 1000


def test_masked_shares_never_repeat() -> None:
    """The same inputs, twice in one session: fresh masks, so nothing that is sent comes again."""
    session = Session(4)
    x = session.share(torch.full((100,), 0.5), 64, 16)

    async def twice(p: Party, x: Shared) -> Shared:
        first, second = await p.open_one(x), await p.open_one(x)
        return first.shared() + second.shared()

    runs = [session.run(twice, x) for _ in range(2)]
    sent = torch.cat([value for run in runs for value in run.sent])
    opened = torch.cat([value for run in runs for _, value in run.opened])
    assert len(set(sent.tolist())) == len(set(opened.tolist())) == 400
    assert all(torch.equal(run.value(), torch.ones(100)) for run in runs)


def test_rearranged_secrets_keep_all_their_views() -> None:
    dealer, _ = parties()
    secret = dealer.mask([2, 3], 20)
    turned = secret.map(lambda x: x.transpose(0, 1))
    assert turned.plain is not None
    assert turned.first is not None
    assert (turned.share.shape, turned.plain.shape, turned.first.shape) == ((3, 2), (3, 2), (3, 2))
    assert isinstance(turned, Secret)
