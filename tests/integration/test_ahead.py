"""Material dealt ahead of any request, on sealed tapes: used once, gone with its session, and never needed."""

import asyncio
import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Semaphore

import pytest
import rogue
from limits import LIMIT_S
from parties import SERVERS, Parties, some_tokens
from rogue import RogueNode

from mpcnet.arrays.ring import Bytes
from mpcnet.models.private.program import Plans, Size
from mpcnet.runtime.sealed_tape import SealedTape, TapeReader, TapeWriter
from mpcnet.runtime.tape_folder import SUFFIX

TOKENS = some_tokens([5])
Damage = Callable[[Path, pytest.MonkeyPatch], None]
ON_TAPES = pytest.mark.parametrize("parties", [{"ahead": ("1x5",), "tapes": "tapes"}], indirect=True, ids=["tapes"])


def folder(parties: Parties, role: str) -> Path:
    return parties.made.config(role).parent / "tapes"


def tapes(parties: Parties, role: str) -> list[Path]:
    return sorted(folder(parties, role).glob(f"*{SUFFIX}"))


async def answered_by(parties: Parties, run: int, lengths: list[int], size: str) -> None:
    """The next request is answered, right, by this run over material of this size."""
    await parties.answered(some_tokens(lengths, seed=run))
    for role in SERVERS:
        assert f"1 request(s), {size} tokens" in await parties.said(role, f"run {run}: .*running")


@pytest.mark.parametrize(
    "parties", [{"ahead": ("1x5",), "tapes": "tapes"}, {"ahead": ("1x5",)}], indirect=True, ids=["tapes", "memory"]
)
async def test_material_is_there_before_the_request(parties: Parties) -> None:
    """A request takes what was dealt, if it fits; the dealer deals the next at once."""
    parties.serve()
    await parties.said("dealer", "run 1: dealt for 1 x 5 tokens")
    await parties.said("server0", "buffered: 1")
    await answered_by(parties, 1, [5], "1 x 5")
    await parties.said("dealer", "run 2: dealt for 1 x 5 tokens")
    await parties.said("server0", "buffered: 1")
    await answered_by(parties, 2, [4], "1 x 5")
    await parties.said("dealer", "run 3: dealt for 1 x 5 tokens")
    await parties.said("server0", "buffered: 1")
    await answered_by(parties, 4, [16, 9], "2 x 16")  # too large for run 3, which is kept
    await answered_by(parties, 3, [5], "1 x 5")
    await parties.stop()
    assert not [tape for role in SERVERS for tape in tapes(parties, role)]


@pytest.mark.parametrize("parties", [{"ahead": ("32x16", "1x5"), "ahead_runs": 99, "buffer_mib": 1}], indirect=True)
async def test_what_does_not_fit_in_memory_is_not_dealt_ahead(parties: Parties) -> None:
    """It would never be complete. Of what fits there is as much as there is room for, and again after each run."""
    parties.serve()
    words = r"32 x 16 tokens: nothing is dealt ahead: want corrections of at most 1 MB \(buffer_mib\), got 6 MB"
    await parties.said("server0", words)
    size = max(Plans(parties.node("client").config).infer(Size(1, 5)).ledger.total().dealt_bytes)
    most = (1 << 20) // size
    assert 2 < most < 98
    await parties.said("server0", f"buffered: {most}$")
    await answered_by(parties, 1, [5], "1 x 5")
    await parties.said("server0", f"buffered: {most}$")
    await answered_by(parties, most + 2, [16] * 32, "32 x 16")  # dealt for when it comes
    await parties.stop()
    assert len([line for line in parties.logs["server0"].lines if "nothing is dealt ahead" in line]) == 1


# --- the dealer is stopped while it deals ahead -------------------------------------------------------------------

IN_MEMORY = pytest.mark.parametrize("parties", [{"ahead": ("1x5",)}], indirect=True, ids=["memory"])
TWO = pytest.mark.parametrize("parties", [{"ahead": ("1x5",), "ahead_runs": 2}], indirect=True, ids=["memory"])


async def dealing(parties: Parties, number: int, *others: RogueNode) -> RogueNode:
    """Run 1 was answered; this bundle was ordered ahead, and the dealer holds back its first frame."""
    which = rogue.of_stream("deal", number)
    slow = parties.node("dealer", RogueNode, victim="server0", which=which, when=1, misdeed=rogue.held)
    parties.serve(slow, *others)
    await parties.said("server0", f"buffered: {number - 1}")
    await answered_by(parties, 1, [5], "1 x 5")
    await slow.did.wait()
    return slow


@IN_MEMORY
async def test_stop_while_no_run_is_under_way(parties: Parties) -> None:
    """It leaves at once: a run that began meanwhile would be cut off. Who asks then waits for the next dealer."""
    await dealing(parties, 2)
    await parties.stop("dealer")
    await parties.all_say("the session ended: ", *SERVERS)
    asked = parties.ask(TOKENS)
    for role in SERVERS:
        await parties.said(role, "queued: 1")
    parties.start("dealer")
    await parties.answered(TOKENS, asked)


@IN_MEMORY
async def test_stop_while_a_run_waits_for_its_material(parties: Parties) -> None:
    """Its order is behind what is dealt ahead, and not begun: both are dealt, and the dealer leaves behind the run."""
    slow = await dealing(parties, 2)
    asked = parties.ask(TOKENS)
    for role in SERVERS:
        await parties.said(role, "queued: 1")
        await parties.said(role, "queued: 0")
    slow.stopping.set()
    slow.released.set()
    await parties.answered(TOKENS, asked)
    await parties.stop("dealer")
    assert "run 3: dealt" in await parties.has_said("dealer", "run 3")


@TWO
async def test_stop_while_a_prepared_run_is_under_way(parties: Parties) -> None:
    """The run is finished, and does not need what is dealt ahead of the next, which is not."""
    which = rogue.of_stream("round", 2)
    server1 = parties.node("server1", RogueNode, victim="server0", which=which, when=4, misdeed=rogue.held)
    slow = await dealing(parties, 3, server1)
    asked = parties.ask(TOKENS)
    await server1.did.wait()
    slow.stopping.set()
    server1.released.set()
    await parties.answered(TOKENS, asked)
    await parties.stop("dealer")
    assert not [line for line in parties.logs["dealer"].lines if "run 3" in line]


# --- tapes ------------------------------------------------------------------------------------------------------


@ON_TAPES
async def test_a_tape_is_good_for_one_session_only(parties: Parties) -> None:
    """After a restart it is removed unread, and that of the other server as well: the next session has its own."""
    parties.serve()
    await parties.said("server0", "buffered: 1")
    [stale] = tapes(parties, "server0")
    [left] = tapes(parties, "server1")
    kept = shutil.copy(left, parties.made.folder)
    await parties.kill("server1")
    shutil.copy(kept, left)  # SIGKILL would leave it where it is
    parties.start("server1")
    await parties.said("server1", r"removed 1 tape\(s\) of an earlier process: nobody can open them")
    await parties.said("server0", "connected with")
    await parties.said("server0", "buffered: 1")
    assert not left.exists() and not stale.exists()
    await answered_by(parties, 1, [5], "1 x 5")


@pytest.mark.slow
@ON_TAPES
@pytest.mark.parametrize("full", [("server0",), ("server1",), SERVERS], ids=" and ".join)
async def test_a_full_disk(parties: Parties, full: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are dealt for when they come, until there is room again; the service lives."""
    places, write = {str(folder(parties, role)) for role in full}, TapeWriter._write

    def no_room(writer: TapeWriter, data: memoryview) -> None:
        if os.readlink(f"/proc/self/fd/{writer._folder._descriptor}") in places:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, data)

    monkeypatch.setattr(TapeWriter, "_write", no_room)
    parties.serve()
    for _ in range(3):
        if full == ("server1",):
            await parties.said("server0", "buffered: 1")
        else:
            await parties.said("server0", "nothing is dealt ahead now")
        await parties.answered(TOKENS)
    dealt = [line for line in parties.logs["dealer"].lines if "dealt" in line]
    assert len(dealt) <= 3 * 2 + 1  # what nobody can keep is not dealt again and again
    for role in full[:1]:  # server1 need not try, if server0 has failed
        await parties.has_said(role, r"run \d+: .*: tape .*No space left on device")
    monkeypatch.undo()
    await parties.answered(TOKENS)
    await parties.stop()
    assert parties.lost() == []
    assert not [tape for role in SERVERS for tape in tapes(parties, role)]


def changed(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytearray(tape.read_bytes())
    raw[len(raw) // 2] ^= 1
    tape.write_bytes(raw)


def cut(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(tape, tape.stat().st_size - 1)


def removed(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape.unlink()


def unreadable(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk does not give it back."""
    read = TapeReader._read

    def failing(reader: TapeReader, count: int) -> memoryview:
        if reader._seal.name == tape.stem:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(reader, count)

    monkeypatch.setattr(TapeReader, "_read", failing)


DAMAGES = {
    changed: r"record \d+ of \d+: its seal does not fit; the file was changed or cut",
    cut: r"file: want \d+ bytes, got \d+; the file was changed or cut",
    removed: "burn failed: No such file or directory; name a folder on a good disk",
    unreadable: "read failed: Input/output error; name a folder on a good disk",
}


async def on_tapes(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both servers have theirs."""
    finish, finished = TapeWriter.finish, Semaphore(0)

    def told(writer: TapeWriter) -> SealedTape:
        tape = finish(writer)
        finished.release()
        return tape

    monkeypatch.setattr(TapeWriter, "finish", told)
    parties.serve()
    for _ in SERVERS:  # server0 says when its own tape is whole, and the other may not be
        assert await asyncio.to_thread(finished.acquire, timeout=LIMIT_S)
    await parties.said("server0", "buffered: 1")


@ON_TAPES
@pytest.mark.parametrize("role", SERVERS)
@pytest.mark.parametrize(
    "damage",
    [changed, *(pytest.param(damage, marks=pytest.mark.slow) for damage in DAMAGES if damage is not changed)],
    ids=lambda damage: damage.__name__,
)
async def test_a_bad_tape_is_dealt_afresh(
    parties: Parties, damage: Damage, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found before its run begins: its server says why, and nobody loses anything."""
    await on_tapes(parties, monkeypatch)
    [tape] = tapes(parties, role)
    damage(tape, monkeypatch)
    await parties.answered(TOKENS)
    line = await parties.has_said(role, r"run 1: .*tape")
    assert re.search(f"tape [0-9a-f]{{16}}-1: {DAMAGES[damage]}", line), line
    await parties.stop()
    assert parties.lost() == []
    assert not [tape for role in SERVERS for tape in tapes(parties, role)]


@pytest.mark.slow
@ON_TAPES
@pytest.mark.parametrize("role", SERVERS)
async def test_a_disk_that_fails_in_mid_run(parties: Parties, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs the session and who asked: all say why, and the parties live on with another tape."""
    await on_tapes(parties, monkeypatch)
    [tape] = tapes(parties, role)
    read = TapeReader.next

    def failing(reader: TapeReader) -> Bytes:
        if reader._seal.name == tape.stem and reader._index == 3:
            unreadable(tape, monkeypatch)
        return read(reader)

    monkeypatch.setattr(TapeReader, "next", failing)
    lost = await parties.refused(parties.ask(TOKENS))
    for line in (lost, *await parties.all_say("the session ended: .*; connecting anew")):
        assert re.search(f"tape [0-9a-f]{{16}}-1: {DAMAGES[unreadable]}", line), line
    await parties.said("server0", "buffered: 1")
    await answered_by(parties, 1, [5], "1 x 5")
    await parties.stop()
    assert not [tape for role in SERVERS for tape in tapes(parties, role)]
