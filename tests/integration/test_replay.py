"""Records of runs, and what is computed again from them."""

import json
from pathlib import Path

import pytest
import rogue
from parties import LABELS, SERVERS, Parties, change, some_tokens, tiny
from rogue import RogueChannel, RogueNode
from typer.testing import CliRunner

from mpcnet.errors import LocalStorageError, MpcError
from mpcnet.launch.cli import app
from mpcnet.launch.replay import FrameDiffers
from mpcnet.models.private.program import Plans, Size
from mpcnet.runtime import record
from mpcnet.transport.wire import Header

TOKENS = some_tokens([5, 3])
PLANS = Plans(tiny().config())
LOADING, RUN = (sum(bool(s.exchange) for s in plan.segments) for plan in (PLANS.load, PLANS.infer(Size(1, 5))))
FRAMES = LOADING + 2 * RUN  # of two streams
KEPT = pytest.mark.parametrize("parties", [{"record": "records", "streams": 2}], indirect=True, ids=["records"])


def records(parties: Parties, role: str) -> list[Path]:
    """Of runs, the oldest first; without those of loading."""
    folder = parties.made.config(role).parent / "records"
    found = [file for file in folder.glob(f"*{record.SUFFIX}") if not file.stem.endswith("-0")]
    return sorted(found, key=lambda file: int(file.stem.rpartition("-")[2]))


def replay(parties: Parties, role: str, *more: object, which: int = -1) -> dict[str, object]:
    """What the command prints.

    :raises MpcError: it fails so.
    """
    file = records(parties, role)[which]
    line = ["replay", str(file), "--config", str(parties.made.config(role)), "--json", "-", *map(str, more)]
    done = CliRunner().invoke(app, line)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout)


@KEPT
async def test_every_frame_of_an_honest_run_is_computed_again(parties: Parties, tmp_path: Path) -> None:
    parties.serve()
    for seed in range(2):
        await parties.answered(some_tokens([5, 3], seed))
    await parties.stop()
    for role, other in (SERVERS, SERVERS[::-1]):
        assert len(records(parties, role)) == 2
        seen = tmp_path / f"{other}.json"
        for which in range(2):
            replay(parties, other, "--received", seen, which=which)
            found = replay(parties, role, "--against", seen, which=which)
            assert found["role"] == role and found["against"] and found["frames"] == FRAMES
        assert oct(records(parties, role)[0].stat().st_mode)[-3:] == "600"


async def flipped(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """The right frame but for a bit."""
    changed = bytearray(payload)
    changed[len(changed) // 2] ^= 4
    await channel.inner.send(header, memoryview(changed))


@KEPT
@pytest.mark.parametrize("when", [1, 4, 9])
async def test_a_flipped_bit_is_caught_before_the_answer_leaves_and_named(
    parties: Parties, tmp_path: Path, when: int
) -> None:
    bad = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), when=when, misdeed=flipped)
    parties.serve(bad)
    words = await parties.refused(parties.ask(TOKENS))
    assert "the contents of its frames are not those that we have seen; mpcnet replay" in words
    await parties.answered(TOKENS)  # in the next session
    await parties.stop()
    seen = tmp_path / "seen.json"
    oldest = {role: min(records(parties, role), key=lambda file: file.stat().st_mtime_ns) for role in SERVERS}
    which = {role: records(parties, role).index(oldest[role]) for role in SERVERS}
    replay(parties, "server0", "--received", seen, which=which["server0"])
    replay(parties, "server1", which=which["server1"])  # it computed right: what it sent is another matter
    with pytest.raises(FrameDiffers, match=r"server1, stream \d, segment \d+ \(.*the other server received another"):
        replay(parties, "server1", "--against", seen, which=which["server1"])


@KEPT
async def test_a_record_that_was_changed_is_refused(parties: Parties) -> None:
    parties.serve()
    await parties.answered(TOKENS)
    await parties.stop()
    (file,) = records(parties, "server0")
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-50], whole[:100], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], b""):
        file.write_bytes(damaged)
        with pytest.raises(LocalStorageError, match="it was changed or cut, or sealed under another key"):
            replay(parties, "server0")
    file.write_bytes(whole)
    assert replay(parties, "server0")["frames"] == FRAMES
    key = file.parent / record.KEY
    key.chmod(0o644)
    with pytest.raises(MpcError, match=record.KEY):
        replay(parties, "server0")


@pytest.mark.parametrize("parties", [{"record": "records", "labels": LABELS}], indirect=True, ids=["classifier"])
async def test_records_are_bounded(parties: Parties) -> None:
    """The oldest give way, and the loading of the session that runs stays."""
    for role in SERVERS:
        change(parties.made, role, record_mib=1)
    parties.serve()
    for seed in range(8):
        await parties.answered(some_tokens([16] * 4, seed))
    await parties.stop()
    for role in SERVERS:
        kept = records(parties, role)
        assert 1 <= len(kept) < 8
        folder = kept[0].parent
        assert sum(file.stat().st_size for file in folder.glob("*")) < 2 << 20
        assert replay(parties, role)["frames"]


async def test_a_server_without_records_says_so(parties: Parties, tmp_path: Path) -> None:
    with pytest.raises(MpcError, match="want a server that keeps records"):
        replay_of = CliRunner().invoke(
            app, ["replay", str(tmp_path / "x"), "--config", str(parties.made.config("server0"))]
        )
        assert replay_of.exception is not None
        raise replay_of.exception


@KEPT
async def test_a_full_disk_costs_the_record_and_nothing_else(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    add = record.RecordWriter._add

    def full(writer: record.RecordWriter, kind: bytes, *more: object) -> None:
        if kind == record.RECEIVED:
            writer._fail(OSError(28, "No space left on device"))
        add(writer, kind, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(record.RecordWriter, "_add", full)
    parties.serve()
    await parties.answered(TOKENS)
    for role in SERVERS:
        await parties.has_said(role, "not kept: No space left on device")
        assert records(parties, role) == []
    await parties.stop()
