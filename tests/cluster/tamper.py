"""What happens at a certain frame: a computing party sends one otherwise than planned, which nobody may accept; or the
line of a client breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mpcnet.rounds import Part
from mpcnet.transport.rendezvous import REPLICAS
from mpcnet.transport.wire import Header, encode
from tests.cluster.words import FRAMES

CHANGES: dict[str, Callable[[Header], dict[str, Any]]] = {
    "another session": lambda header: {"session": bytes(16)},
    "an unknown stream": lambda header: {"stream": header.stream + (1 << 20)},
    "the next segment": lambda header: {"sequence": header.sequence + 1},
    "another label": lambda header: {"label": header.label + "x"},
    "another transcript": lambda header: {"chain": bytes(byte ^ 1 for byte in header.chain)},
    "another shape": lambda header: {"parts": tuple(Part(part.bits, (*part.shape, 1)) for part in header.parts)},
    "another kind": lambda header: {"kind": "deal" if header.kind == "round" else "round"},
    "a field too many": lambda header: {"parts": (*header.parts, Part(1, (0,)))},
}
WAYS = ("lost", "repeated", *CHANGES)


@dataclass
class Tamper:
    """`way` is done once, to frame number `when` of a run from `sender` to `receiver`; if one is a replica, to what
    passes between it and a server.
    """

    sender: str
    receiver: str
    way: str
    when: int
    done: bool = False
    _refused: set[bytes] = field(default_factory=set)  # nobody may accept these
    _repeated: bytes | None = None
    _lost: Header | None = None  # nor any that follows this one in its stream

    def frames(self, sender: str, receiver: str, header: Header) -> list[Header] | None:
        """What is sent in place of this frame; None: just this one."""
        if self.done or (sender, receiver) != (self.sender, self.receiver) or not self._planned(header):
            return None
        self.when -= 1
        if self.when > 0:
            return None
        self.done = True
        if self.way == "lost":
            self._lost = header
            return []
        if self.way == "repeated":
            self._repeated = encode(header)
            return [header, header]
        changed = replace(header, **CHANGES[self.way](header))
        self._refused.add(encode(changed))
        return [changed]

    def accepted(self, receiver: str, header: Header) -> str | None:
        """What is wrong with it, if something is."""
        if not self.done or receiver != self.receiver or not self._planned(header):
            return None
        seen, lost = encode(header), self._lost
        if seen == self._repeated:
            self._repeated = None
            self._refused.add(seen)  # the second one
            return None
        if seen in self._refused or (
            lost is not None
            and not self._of_replica
            and (header.session, header.kind, header.stream) == (lost.session, lost.kind, lost.stream)
            and header.sequence > lost.sequence
        ):
            return f"{receiver} accepted {header} of {self.sender}, which did this: {self.way}"
        return None

    @property
    def _of_replica(self) -> bool:
        return not {self.sender, self.receiver}.isdisjoint(REPLICAS)

    def _planned(self, header: Header) -> bool:
        """A changed one has another kind, or another label."""
        if self._of_replica:
            return header.kind != "control" or header.label.removesuffix("x") in FRAMES
        return header.kind in ("round", "deal")


@dataclass
class Cut:
    """`frames` frames after `server` has sent `client` the frame `label` for the `when`-th time, their line breaks:
    connections are reset, or nothing passes for `seconds`.
    """

    server: str
    client: str
    label: str
    when: int
    frames: int
    seconds: float  # 0: a reset
    both: bool  # the other server's line too

    def matches(self, sender: str, receiver: str, label: str) -> bool:
        """True at that frame, once."""
        if (sender, receiver, label) != (self.server, self.client, self.label):
            return False
        self.when -= 1
        return self.when == 0
