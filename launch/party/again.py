"""A server's computation once more, from what it received: after the fact from a record, or live by its replica.

A party is a pure function of its seeds, its inputs, its corrections and the frames that it received; arithmetic is the
same on every host to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.launch.party import upload
from mpcnet.launch.party.inputs import keeps_of, tokens_of
from mpcnet.launch.party.owner_side import Weights, weight_pieces
from mpcnet.launch.party.recording import LOAD
from mpcnet.models.families.loaded import Model, load
from mpcnet.models.private.inference import Response, audited_inference
from mpcnet.models.private.program import Plans, Size
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.randomness.source import ServerSource
from mpcnet.rounds import Program
from mpcnet.runtime import record
from mpcnet.runtime.record import DEALT, INPUT, RECEIVED
from mpcnet.runtime.session import compute_again
from mpcnet.runtime.stream import Stream
from mpcnet.transport.rendezvous import SERVERS

Compare = Callable[[int, Stream, int, bytes], None]  # stream's index, stream, segment, digest of our frame
Inputs = tuple[list[list[Shared]], list[Tensor]]  # tokens and padding masks, by stream


class Given(Protocol):
    """What a server received. `facts` are those of :meth:`mpcnet.launch.party.recording.Recording.begin`."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is public of the run, and the seeds."""

    def take(self, kind: bytes, index: int, sequence: int) -> Bytes:
        """An entry; of a stream in the order of its segments."""


@dataclass(slots=True)
class Again:
    """Computes runs again; `compare` is told of every frame that the server should have sent. All of it blocks."""

    plans: Plans
    compare: Compare
    combine: ring.Combine = ring.combine
    guard: Guard = field(default_factory=Guard)

    def load(self, given: Given) -> Model:
        """The model of a session."""
        config, party = self.plans.config, party_of(given.facts)
        seed, *explicit = (given.take(INPUT, 0, place) for place in range(len(weight_pieces(config, party))))
        weights = Weights(config, party, seed, deque(explicit), b"")
        model: Model = self._compute(
            given, 0, Stream(LOAD, self.plans.load), lambda p: load(p, config, weights.shares())
        )
        return model

    def inputs(self, given: Given) -> Inputs:
        """The inputs of a run."""
        config, party = self.plans.config, party_of(given.facts)
        requests = []
        for index, size in enumerate(requests_of(given.facts)):
            count = len(upload.parts(config, size, party))
            pieces = [given.take(INPUT, index, place) for place in range(count)]
            requests.append((size, upload.made(config, pieces, size, b"", given.facts["role"])))
        sizes = sizes_of(given.facts)
        return tokens_of(config, party, requests, sizes), keeps_of(requests, sizes)

    def stream(self, given: Given, model: Model, inputs: Inputs, index: int) -> Response:
        """One stream of a run."""
        size = sizes_of(given.facts)[index]
        stream = Stream(given.facts["number"] + index, self.plans.infer(size))
        tokens, keep = inputs[0][index], inputs[1][index]
        build = partial(_inference, model=model, tokens=tokens, keep=keep, size=size)
        response: Response = self._compute(given, index, stream, build)
        return response

    def _compute(self, given: Given, index: int, stream: Stream, build: Callable[[Party], Program[Any]]) -> Any:
        facts = given.facts
        source = ServerSource(
            party_of(facts),
            Keystream(facts["masks"], Domain(facts["dealer"], stream.number, "masks"), self.guard),
            Keystream(facts["refresh"], Domain(facts["other"], stream.number, "refresh"), self.guard),
            Hashes.of(facts["other"], stream.number),
        )
        return compute_again(
            build(Party(source, combine=self.combine)), source, stream, partial(given.take, DEALT, index),
            partial(given.take, RECEIVED, index),
            lambda sequence, packed: self.compare(index, stream, sequence, record.digest(packed)),
        )  # fmt: skip


def party_of(facts: Mapping[str, Any]) -> int:
    return SERVERS.index(facts["role"])


def sizes_of(facts: Mapping[str, Any]) -> list[Size]:
    """Of the run's streams."""
    return [Size(*values) for values in facts["sizes"]]


def requests_of(facts: Mapping[str, Any]) -> list[Size]:
    """Of the run's requests, in the order of their rows."""
    return [replace(sizes_of(facts)[0], batch=batch, length=length) for batch, length in facts["requests"]]


def _inference(p: Party, *, model: Model, tokens: Sequence[Shared], keep: Tensor, size: Size) -> Program[Any]:
    return audited_inference(p, model, tokens, keep, *size.kind)
