"""`mpcnet replay`: compute again what a server sent in a run, from its record, and name the first that differs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgpack
import torch
import typer

from mpcnet import checked_json
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalConfigError, LocalStorageError, MpcError, describe
from mpcnet.launch.deployment import settings
from mpcnet.launch.options import Config, Json
from mpcnet.launch.party.again import Again
from mpcnet.launch.party.recording import FORMAT, LOAD, path
from mpcnet.launch.reporting.screen import console
from mpcnet.launch.reporting.text_files import check_folder, write_text
from mpcnet.models.families.loaded import Model
from mpcnet.models.private import program
from mpcnet.models.private.program import Plans
from mpcnet.runtime import record
from mpcnet.runtime.record import FACTS, RECEIVED, SENT, folder_key
from mpcnet.runtime.stream import Stream
from mpcnet.transport.rendezvous import SERVERS

DIFFERS: Final = 1  # exit code


class FrameDiffers(MpcError):
    """A frame is not what its server computes from what it received."""

    exit_code = DIFFERS


@dataclass(slots=True)
class Recorded:
    """A record's entries, by stream and segment; facts are of :meth:`mpcnet.launch.party.recording.Recording.begin`."""

    facts: dict[str, Any]
    entries: Mapping[bytes, dict[int, dict[int, Bytes]]]

    @staticmethod
    def read(file: Path, key: bytes, digest: bytes) -> Recorded:
        """:raises LocalStorageError: it is no record of this program that can be read."""
        entries: dict[bytes, dict[int, dict[int, Bytes]]] = defaultdict(lambda: defaultdict(dict))
        facts: dict[str, Any] = {}
        for kind, index, sequence, payload in record.read(file, key):
            if kind == FACTS:
                facts = msgpack.unpackb(payload.tobytes())
            else:
                entries[kind][index][sequence] = payload
        if facts.get("format") != FORMAT or facts.get("program") != digest:
            raise LocalStorageError(f"record {file.name}: want one of this program.json and release, got another")
        return Recorded(facts, entries)

    def take(self, kind: bytes, index: int, sequence: int) -> Bytes:
        """See :class:`mpcnet.launch.party.again.Given`.

        :raises LocalStorageError: there is no such entry.
        """
        try:
            return self.entries[kind][index][sequence]
        except KeyError:
            where = f"{kind.decode()} {index}/{sequence}"
            raise LocalStorageError(f"record of run {self.facts['number']}: want entry {where}, got none") from None

    def received(self) -> dict[str, str]:
        """The digests of the other server's frames."""
        rows = self.entries[RECEIVED].items()
        return {f"{i}/{k}": record.digest([raw]).hex() for i, frames in rows for k, raw in frames.items()}


@dataclass(slots=True)
class Replay:
    """What is computed again. `others` are the digests of our frames as the other server received them, if known."""

    plans: Plans
    others: Mapping[str, str] | None = None
    compared: int = 0

    def load(self, given: Recorded) -> Model:
        """The model of a session.

        :raises FrameDiffers: the server sent something else.
        """
        return Again(self.plans, partial(self._compare, given, None)).load(given)

    def run(self, given: Recorded, model: Model) -> None:
        """A run, stream by stream.

        :raises FrameDiffers: as :meth:`load`.
        """
        again = Again(self.plans, partial(self._compare, given, self.others))
        inputs = again.inputs(given)
        for index in range(len(given.facts["sizes"])):
            again.stream(given, model, inputs, index)

    def _compare(
        self, given: Recorded, others: Mapping[str, str] | None, index: int, stream: Stream, sequence: int, found: bytes
    ) -> None:
        label = stream.plan.segments[sequence].label
        where = f"{given.facts['role']}, stream {stream.number}, segment {sequence} ({label})"
        if found != given.take(SENT, index, sequence).tobytes():
            raise FrameDiffers(f"{where}: want the frame that follows from what it received, it sent another")
        theirs = None if others is None else others.get(f"{index}/{sequence}")
        if others is not None and theirs != found.hex():
            raise FrameDiffers(f"{where}: want the frame that it computes, the other server received another")
        self.compared += 1


def replay_command(
    file: Annotated[Path, typer.Argument(help="A record of a run, in the folder that `record` names.")],
    config: Config,
    received: Annotated[
        Path | None, typer.Option(help="Write the digests of the other server's frames to this file, for its operator.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Digests of this server's frames, as the other server received them.")
    ] = None,
    json_file: Json = "",
) -> None:
    """Compute again every frame that this server sent in a run, from what it received. Exit code 1: one differs.

    The record of loading the weights must lie beside it. With --against the frames are also compared with what the
    other server received: make that file there, with --received.
    """
    check_folder(json_file)
    ours = settings.read(config)
    if ours.role not in SERVERS or not ours.record:
        raise LocalConfigError(describe("replay", "a server that keeps records (record = FOLDER)", ours.role))
    key = folder_key(ours.folder / ours.record)
    with console.status("reading the record") as status, torch.inference_mode():
        torch.set_num_threads(ours.threads or torch.get_num_threads())
        config_ = program.read(ours.program_path)
        given = Recorded.read(file, key, program.digest(config_))
        if received is not None:
            write_text(str(received), json.dumps(given.received()))
        replay = Replay(Plans(config_), None if against is None else _digests(against))
        status.update("loading the weights again")
        beside = path(file.parent, given.facts["other"], LOAD)
        model = replay.load(Recorded.read(beside, key, program.digest(config_)))
        status.update("computing the run again")
        replay.run(given, model)
    document = {"role": ours.role, "record": file.name, "frames": replay.compared, "against": against is not None}
    if json_file:
        text = json.dumps(document)
        print(text) if json_file == "-" else write_text(json_file, text)
    else:
        also = ", and what the other server received" if against is not None else ""
        console.print(f"{ours.role}: all {replay.compared} frames are what it computes from what it received{also}")


def _digests(file: Path) -> dict[str, str]:
    """:raises LocalConfigError: they are none."""
    try:
        found = checked_json.mapping(file.read_bytes())
    except (OSError, *checked_json.MALFORMED) as error:
        raise LocalConfigError(f"{file}: want digests that mpcnet replay --received wrote, got {error!r}") from error
    return {str(place): str(digest) for place, digest in found.items()}
