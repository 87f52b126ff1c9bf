"""A tiny model, and its parties as tasks of one event loop: real keys, real sockets, the code of the processes."""

import asyncio
import re
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from limits import LIMIT_S
from torch import Tensor

from mpcnet.errors import MpcError, one_line
from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.deployment.deploy import write_deployment
from mpcnet.launch.party import client, dealer, owner, party, replica
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.party.log import Log
from mpcnet.launch.party.monitor import Metrics
from mpcnet.launch.party.node import Node, open_node
from mpcnet.launch.simulation.network import Loopback
from mpcnet.launch.simulation.processes import Deployment
from mpcnet.models.checkpoints.checkpoint import Checkpoint, random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.families.config import AnswerKind, Config
from mpcnet.models.float_model import reference
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import Calibration, calibrate
from mpcnet.models.formats.planner import plan
from mpcnet.models.head_shape import Dense
from mpcnet.models.private.prepare import random_tokens
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.suites import SUITES
from mpcnet.transport.handshake import Peer
from mpcnet.transport.rendezvous import REPLICAS
from mpcnet.transport.tls import TlsChannel

SHAPE = BertShape(layers=1, hidden=32, heads=2, ffn=64, vocab=64, positions=16)
LABELS = 3
SERVERS = ("server0", "server1")
ALL = (*SERVERS, "dealer")
ALICE = "client:alice"


@dataclass(frozen=True, slots=True, eq=False)
class Tiny:
    """Random weights, large enough that attention is not uniform."""

    checkpoint: Checkpoint
    folded: Mapping[str, Tensor]
    calibration: Calibration

    def config(self, suite: str = "fast", softmax: str = "exact", embedding: str = "private") -> Config:
        """The public program."""
        shape = self.checkpoint.shape
        formats = plan(shape, bounds(shape, self.folded), self.calibration, softmax, SUITES[suite])
        return Config(shape, formats, SUITES[suite], embedding)

    def plain(self, tokens: Tokens, softmax: str = "exact") -> Tensor:
        run = reference.classify if self.checkpoint.shape.labels else reference.embed
        return run(self.checkpoint.shape, self.folded, tokens.ids, tokens.types, tokens.mask, softmax)

    def check(self, tokens: Tokens, values: Tensor, softmax: str = "exact") -> None:
        """The values are the float model's."""
        plain = self.plain(tokens, softmax)
        assert values.shape == plain.shape
        assert torch.cosine_similarity(values, plain).min() > 0.9999
        assert (values - plain).abs().max() < 0.005


@cache
def tiny(
    labels: int = 0,
    pooling: str = "mean",
    dense: tuple[Dense, ...] = (),
    positions: int = SHAPE.positions,
    head: str = "",
) -> Tiny:
    kind: dict[str, Any] = {"pooling": pooling, "dense": dense}
    if head:
        kind = {"head": head, "labels": labels, "pooling": "none"}
        kind |= {"head_activation": "gelu"} if head == "fill-mask" else {}
    elif labels:
        kind = {"head": "classification", "labels": labels, "pooling": "first"}
    raw = random_checkpoint(replace(SHAPE, positions=positions, **kind), 1)
    tensors = {name: value if "norm" in name else value * 5 for name, value in raw.tensors.items()}
    checkpoint = replace(raw, tensors=tensors)
    folded = fold(checkpoint)
    batches = [random_tokens(checkpoint, 32, length) for length in (1, 2, positions)]
    return Tiny(checkpoint, folded, calibrate(checkpoint.shape, folded, batches, checkpoint.sha256))


def some_tokens(lengths: list[int], seed: int = 0) -> Tokens:
    """Sentences of these lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths))
    mask = (torch.arange(size[1]) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(0, SHAPE.vocab, size, generator=generator)
    types = torch.randint(0, SHAPE.types, size, generator=generator)
    return Tokens(ids * mask, types * mask, mask)


@contextmanager
def deployed(config: Config, folder: Path, net: str = "none", **settings: Any) -> Iterator[Deployment]:
    """A deployment with two clients, and an end to its processes."""
    network = Loopback(net)
    made = Deployment(folder, network)
    write_deployment(folder, config, network.addresses, (ALICE,), net=net, threads=1, **settings)
    try:
        yield made
    finally:
        made.stop()


def change(made: Deployment, role: str, **settings: Any) -> None:
    """Other settings for who starts next."""
    settings_file.write(replace(settings_file.read(made.config(role)), **settings))


class Heard(Log):
    """A log whose lines a test can wait for."""

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self.role, self.lines = role, list[str]()
        self._seen = 0
        self._changed = asyncio.Event()

    def say(self, text: str, **facts: Any) -> None:
        super().say(text, **facts)
        self.hear(one_line(text))

    def hear(self, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    async def said(self, words: str) -> str:
        """The next line with these words, behind that which was found last."""
        self._seen, line = await self._find(words, self._seen)
        return line

    async def has_said(self, words: str) -> str:
        """The first line with these words, wherever it is."""
        return (await self._find(words, 0))[1]

    async def _find(self, words: str, start: int) -> tuple[int, str]:
        """Where the search goes on, and the line."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    for index in range(start, len(self.lines)):
                        if re.search(words, self.lines[index]):
                            return index + 1, self.lines[index]
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self.role} has not said {words!r}, but: {self.lines}") from None


class HeardMetrics(Metrics):
    """Gauges that nobody logs; here they are lines too."""

    def __init__(self, log: Heard) -> None:
        super().__init__(log.role)
        self._log = log

    def queue(self, depth: int) -> None:
        super().queue(depth)
        self._log.hear(f"queued: {depth}")

    def buffered(self, runs: int, nbytes: int) -> None:
        super().buffered(runs, nbytes)
        self._log.hear(f"buffered: {runs}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNode(Node):
    """A node whose connections can be cut."""

    channels: list[TlsChannel] = field(default_factory=list)

    async def greet(self, channel: TlsChannel) -> Peer:
        self.channels.append(channel)
        return await Node.greet(self, channel)


class Parties:
    """Who takes part, as tasks; what became of each is its result or its error."""

    def __init__(self, made: Deployment, model: Tiny) -> None:
        self.made, self.model = made, model
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self.nodes: dict[str, OpenNode] = {}
        self.logs: dict[str, Heard] = {}

    def node(self, role: str, kind: type[OpenNode] = OpenNode, **changes: Any) -> Any:
        """A node with the deployment's settings; `changes` are fields of `kind`. A role's log goes on in its next."""
        node = open_node(settings_file.read(self.made.config(role)))
        log = self.logs.setdefault(role, Heard(role))
        return kind(node.settings, node.config, node.identity, node.roster, log, HeardMetrics(log), **changes)

    def start(self, role: str, node: OpenNode | None = None) -> asyncio.Task[int]:
        """Any party but a client, for the first time or again."""
        node = self.nodes[role] = node or self.node(role)
        main: Coroutine[Any, Any, int]
        if role in SERVERS:
            main = party.main(node)
        elif role in REPLICAS:
            main = replica.main(node)
        else:
            main = dealer.main(node) if role == "dealer" else owner.main(node, self.model.checkpoint, once=False)
        self.tasks[role] = asyncio.ensure_future(main)
        return self.tasks[role]

    def serve(self, *nodes: OpenNode) -> None:
        """server0, server1, the dealer, the owner and replicas; `nodes` replaces some of them."""
        given = {node.role: node for node in nodes}
        for role in (*ALL, "owner", *settings_file.read(self.made.config("server0")).replicas):
            self.start(role, given.get(role))

    def ask(
        self, tokens: Tokens, role: str = "client", name: str = "", kind: AnswerKind = "logits", audit: bool = False
    ) -> asyncio.Task[Answer]:
        """A client as a task."""
        node = self.nodes[name or role] = self.node(role)
        table = self.model.folded if node.config.embedding == "client" else None
        task = self.tasks[name or role] = asyncio.ensure_future(client.ask(node, tokens, table, kind, audit))
        return task

    async def answered(self, tokens: Tokens, asked: asyncio.Task[Answer] | None = None) -> Answer:
        """The answer, which must be right."""
        async with asyncio.timeout(LIMIT_S):
            answer = await (asked or self.ask(tokens))
        self.model.check(tokens, answer.values, self.nodes["client"].config.formats.softmax)
        return answer

    async def refused(self, asked: asyncio.Task[Answer]) -> str:
        """Why a client has got no answer."""
        found = (await asyncio.wait_for(asyncio.gather(asked, return_exceptions=True), LIMIT_S))[0]
        assert isinstance(found, MpcError), found
        return str(found)

    async def said(self, role: str, words: str) -> str:
        """The role's next line with these words, as soon as there is one."""
        return await self.logs[role].said(words)

    async def has_said(self, role: str, words: str) -> str:
        """Likewise, wherever that line is."""
        return await self.logs[role].has_said(words)

    async def all_say(self, words: str, *roles: str) -> list[str]:
        """Likewise of each of these; of all computing parties, if none is named."""
        return [await self.said(role, words) for role in roles or ALL]

    def lost(self) -> list[str]:
        """What ended sessions, but for parties that were stopped in order."""
        lines = [line for role in ALL for line in self.logs[role].lines]
        return [line for line in lines if "session ended" in line and "is stopping" not in line]

    async def fails(self, role: str) -> str:
        """The line with which a party ends; it must be an error of ours."""
        found = (await asyncio.wait_for(asyncio.gather(self.tasks[role], return_exceptions=True), LIMIT_S))[0]
        assert isinstance(found, MpcError) and found.exit_code, (role, found)
        return str(found)

    async def stop(self, *roles: str) -> None:
        """As one SIGTERM each (to all of them, if none is named): each ends in order."""
        roles = roles or tuple(role for role in (*ALL, "owner", *REPLICAS) if role in self.tasks)
        for role in roles:
            self.nodes[role].stopping.set()
        async with asyncio.timeout(LIMIT_S):
            assert [await self.tasks[role] for role in roles] == [0] * len(roles)

    async def kill(self, role: str) -> None:
        """As SIGKILL does: its connections end without a word, and it says nothing more."""
        for channel in self.nodes[role].channels:
            channel._tcp.abandon()
        task = self.tasks.pop(role)
        task.cancel()
        await asyncio.wait([task])

    async def cancel(self) -> None:
        """Whatever still runs when a test ends."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
