"""`mpcnet replay`: compute again what a server sent in a run, from its record, and name the first that differs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgpack
import torch
import typer

from mpcnet import checked_json
from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalConfigError, LocalStorageError, MpcError, describe
from mpcnet.launch.deployment import settings
from mpcnet.launch.options import Config, Json, check_folder, console, write_text
from mpcnet.launch.party.recording import FORMAT, LOAD, MASK, path
from mpcnet.models.families.bert import Model, load
from mpcnet.models.private import program
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.parameters import parameters
from mpcnet.models.private.program import Plans, Size, token_shapes
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.randomness.source import ServerSource
from mpcnet.rounds import Part, Program
from mpcnet.runtime import record
from mpcnet.runtime.record import DEALT, FACTS, INPUT, RECEIVED, SENT, folder_key
from mpcnet.runtime.session import compute_again
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

    @property
    def party(self) -> int:
        return SERVERS.index(self.facts["role"])

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

    def stream(self, given: Recorded, index: int, stream: Stream, build: Callable[[Party], Program[Any]]) -> Any:
        """One stream of a record.

        :raises FrameDiffers: it sent something else.
        """
        facts, guard = given.facts, Guard()
        source = ServerSource(
            given.party,
            Keystream(facts["masks"], Domain(facts["dealer"], stream.number, "masks"), guard),
            Keystream(facts["refresh"], Domain(facts["other"], stream.number, "refresh"), guard),
            Hashes.of(facts["other"], stream.number),
        )
        sent = given.entries[SENT][index]

        def compare(sequence: int, packed: list[Bytes]) -> None:
            found, label = record.digest(packed), stream.plan.segments[sequence].label
            where = f"{facts['role']}, stream {stream.number}, segment {sequence} ({label})"
            if found != sent[sequence].tobytes():
                raise FrameDiffers(f"{where}: want the frame that follows from what it received, it sent another")
            theirs = None if self.others is None else self.others.get(f"{index}/{sequence}")
            if self.others is not None and theirs != found.hex():
                raise FrameDiffers(f"{where}: want the frame that it computes, the other server received another")
            self.compared += 1

        dealt, received = given.entries[DEALT][index], given.entries[RECEIVED][index]
        return compute_again(build(Party(source)), source, stream, dealt, received, compare)

    def load(self, given: Recorded) -> Model:
        """The model of a session."""
        config, party = self.plans.config, given.party
        rows = given.entries[INPUT][0]
        shares = [
            (q.name, Shared(ring.unpack(rows[i], Part(q.bits, q.shape)), q.bits, q.frac, party))
            for i, q in enumerate(parameters(config))
        ]
        others, self.others = self.others, None  # those are of the run
        model: Model = self.stream(given, 0, Stream(LOAD, self.plans.load), lambda p: load(p, config, shares))
        self.others = others
        return model

    def run(self, given: Recorded, model: Model) -> None:
        """A run, stream by stream."""
        for index, values in enumerate(given.facts["sizes"]):
            size = Size(*values)
            stream = Stream(given.facts["number"] + index, self.plans.infer(size))
            rows = given.entries[INPUT][index]
            tokens = [
                Shared(ring.unpack(rows[k], Part(x.bits, tuple(x.shape))), x.bits, x.frac, given.party)
                for k, x in enumerate(token_shapes(self.plans.config, size))
            ]
            keep = torch.from_numpy(rows[MASK].copy()).reshape(size.batch, size.length).to(torch.int64)
            build = partial(_inference, model=model, tokens=tokens, keep=keep, size=size)
            self.stream(given, index, stream, build)


def _inference(p: Party, *, model: Model, tokens: list[Shared], keep: torch.Tensor, size: Size) -> Program[Any]:
    return audited_inference(p, model, tokens, keep, *size.kind)


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
