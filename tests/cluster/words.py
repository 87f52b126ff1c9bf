"""The words of replicas: no answer leaves without them, and they are true."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpcnet.arrays.ring import Bytes
from mpcnet.launch.party import forward
from mpcnet.launch.party.control_frames import (
    BEGIN,
    CONFIRM,
    ENTRY,
    LOAD_STREAM,
    ORDER,
    RESULT,
    TAG,
    WITNESS,
)
from mpcnet.models.private.inference import Response
from mpcnet.rounds import Exchange
from mpcnet.transport.wire import Header
from tests.cluster.flips import Flip, flipped, flipped_answer
from tests.cluster.loop import PROCESS
from tests.cluster.roles import REPLICAS, SERVERS

if TYPE_CHECKING:
    from tests.cluster.world import World

Run = tuple[bytes, int]  # the servers' session, and the first stream
FRAMES = (BEGIN, ENTRY, WITNESS, CONFIRM)  # from and to replicas
ACCUSED = "want the share of the answer that its replica computed"


class Words:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.honest = True  # who flips no bit does nothing else wrong either (not so in tests.fuzz.live)
        self.flips: list[Flip] = []
        self._draw = random.Random(f"flips {world.seed}")
        self._runs: dict[bytes, Run] = {}  # of requests
        self._streams: dict[Run, Sequence[int]] = {}
        self._looked_at: dict[bytes, Run] = {}  # by the session of the replica's channel
        self._confirmed: dict[str, set[Run]] = {name: set() for name in REPLICAS}

    @property
    def replicas(self) -> Sequence[str]:
        found: Sequence[str] = self._world.settings.get("replicas", ())
        return found

    # --- frames -------------------------------------------------------------------------------------------------

    def sent(self, name: str, header: Header) -> None:
        """A control frame by `name`, in a world with replicas."""
        fields: Any = header.fields
        if not self.honest:
            return
        match header.label:
            case label if label == ORDER and fields["what"] == "run":
                self._runs |= dict.fromkeys(fields["ids"], (header.session, fields["stream"]))
            case label if label == ENTRY:
                self._passes_on(name, header)
            case label if label == WITNESS:
                run = self._looked_at[header.session] = fields["session"], fields["stream"]
                self._streams[run] = range(run[1], run[1] + max(1, len(fields["sizes"]) // 2))
            case label if label == CONFIRM:
                self._said(name, self._looked_at[header.session], fields["reason"])
            case label if label == RESULT:
                self._answers(name, header)

    def _passes_on(self, server: str, header: Header) -> None:
        """What a server holds for its replica is bounded; what leaves now is among it."""
        held = self._world.passing[server, "passes on"]
        largest = max(header.payload_bytes, *map(forward._nbytes, held._frames), 0)
        if held._nbytes > forward.AHEAD_BYTES + largest:
            self._world.breaks(f"{server} holds {held._nbytes} bytes for its replica")

    def _said(self, replica: str, run: Run, reason: str) -> None:
        """A replica has said of a run that it is right, or why not."""
        server = SERVERS[REPLICAS.index(replica)]
        wrong = [each for each in self._in(run) if each.server == server]
        self._world.note("word", replica, run[1], reason)
        if not reason:
            self._confirmed[replica].add(run)
            if wrong:
                self._world.breaks(f"{replica} has confirmed run {run[1]}, in which {server} flipped a bit")
        elif not wrong:
            self._world.breaks(f"{replica} blames {server}, which has done nothing: {reason}")
        elif wrong[0].name not in reason or "want the frame that follows" not in reason:
            self._world.breaks(f"{replica} does not name {wrong[0].name}...), but says: {reason}")
        else:
            wrong[0].named = True

    def _answers(self, server: str, header: Header) -> None:
        """A server's share of an answer leaves."""
        run = self._runs[self._world.seen.asked[header.session]]
        for replica in self.replicas:
            if run not in self._confirmed[replica]:
                self._world.breaks(f"{server} answers run {run[1]} without the word of {replica}")
        for each in self._in(run):
            self._world.breaks(f"{server} answers run {run[1]}, in which {each.server} flipped a bit")
        if (TAG in header.fields) != (REPLICAS[1 - SERVERS.index(server)] in self.replicas):
            self._world.breaks(f"{server}: want a tag of the other server's replica, and only if it has one")

    def _in(self, run: Run) -> list[Flip]:
        """What was flipped in this run, or in the loading of its session."""
        streams = [LOAD_STREAM, *self._streams.get(run, ())]
        return [each for each in self.flips if each.of_run(run[0], streams)]

    # --- what servers compute -----------------------------------------------------------------------------------

    def computed(self, run: Any, segment: Any, packed: list[Bytes]) -> list[Bytes]:
        """A frame of a stream (`mpcnet.runtime.session._Run`): the same, unless its server flips a bit now."""
        name, where = PROCESS.get(), "run" if run.stream.number else "loading"
        for each in self.flips:
            if isinstance(run.step, Exchange) and each.due(name, where):
                run.step, packed = flipped(self._draw, run.step)
                each.session, each.stream = self._world.servers[name].other.session, run.stream.number
                each.segment = next(at for at, planned in enumerate(run.stream.plan.segments) if planned is segment)
                self._world.note("flip", name, each.stream, each.segment, segment.label)
        return packed

    def shared(self, request: bytes, answer: Response) -> Response:
        """A server's share of an answer, likewise."""
        for each in self.flips:
            if each.due(PROCESS.get(), "answer"):
                each.request, answer = request, flipped_answer(self._draw, answer)
                self._world.note("flip", each.server, "an answer")
        return answer

    # --- what clients make of it --------------------------------------------------------------------------------

    def took(self, client: str, session: bytes) -> None:
        """A client has taken the answer to what it asked over this channel."""
        for each in self._of_answer(session):
            self._world.breaks(f"{client} took an answer of which {each.server} had flipped a bit")

    def refused(self, client: str, session: bytes, error: Exception) -> None:
        """It has got none, for this reason."""
        if self.honest and ACCUSED in str(error):
            flips = [each for each in self._of_answer(session) if str(error).startswith(f"{each.server}: ")]
            for each in flips:
                each.named = True
            if not flips:
                self._world.breaks(f"{client} blames a server that has done nothing: {error}")

    def _of_answer(self, session: bytes) -> list[Flip]:
        name = self._world.seen.asked.get(session)
        return [each for each in self.flips if each.request and each.request == name]

    def named(self) -> None:
        """Nothing else went wrong: what was flipped in a run has been named."""
        for each in self.flips:
            if each.done and not each.named and each.where != "answer":
                self._world.breaks(f"nobody has named what {each.name}...) flipped")
