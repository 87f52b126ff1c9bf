"""A tiny model, and its parties as tasks of one event loop: real keys, real sockets, the code of the processes."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from launch import client, dealer, owner, party
from launch import settings as settings_file
from launch.node import Node, open_node
from launch.processes import Deployment
from models import numbers, reference
from models.bert import Config
from models.calibrate import Calibration, calibrate
from models.prepare import random_tokens
from models.shape import BertShape
from models.text import Tokens
from models.weights import Checkpoint, fold, random_checkpoint
from mpcnet.errors import MpcError
from protocols.suites import SUITES

SHAPE = BertShape(layers=1, hidden=32, heads=2, ffn=64, vocab=64, positions=16)
LABELS = 3
SERVERS = ("server0", "server1")
LIMIT_S = 20.0  # of a test's wait for the end; far above the parties' own timeout, which ends them


@dataclass(frozen=True, slots=True, eq=False)
class Tiny:
    """Random weights, large enough that attention is not uniform."""

    checkpoint: Checkpoint
    folded: Mapping[str, Tensor]
    calibration: Calibration

    def config(self, suite: str = "fast", softmax: str = "exact", embedding: str = "private") -> Config:
        """The public program."""
        shape = self.checkpoint.shape
        return Config(shape, numbers.plan(shape, self.calibration, softmax), SUITES[suite], embedding)

    def plain(self, tokens: Tokens, softmax: str = "exact") -> Tensor:
        run = reference.classify if self.checkpoint.shape.labels else reference.embed
        return run(self.checkpoint.shape, self.folded, tokens.ids, tokens.types, tokens.mask, softmax)


@cache
def tiny(labels: int = 0) -> Tiny:
    head = {"head": "classification", "labels": labels, "pooling": "first"} if labels else {}
    raw = random_checkpoint(replace(SHAPE, **head), 1)
    tensors = {name: value if "norm" in name else value * 5 for name, value in raw.tensors.items()}
    checkpoint = replace(raw, tensors=tensors)
    folded = fold(checkpoint)
    batches = [random_tokens(checkpoint, 32, length) for length in (1, 2, SHAPE.positions)]
    return Tiny(checkpoint, folded, calibrate(checkpoint.shape, folded, batches, checkpoint.sha256))


def some_tokens(lengths: list[int], seed: int = 0) -> Tokens:
    """Sentences of these lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths))
    mask = (torch.arange(size[1]) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(0, SHAPE.vocab, size, generator=generator)
    types = torch.randint(0, SHAPE.types, size, generator=generator)
    return Tokens(ids * mask, types * mask, mask)


class Parties:
    """Who takes part, as tasks; what became of each is its result or its error."""

    def __init__(self, made: Deployment, model: Tiny) -> None:
        self.made, self.model = made, model
        self.tasks: dict[str, asyncio.Task[Any]] = {}

    def node(self, role: str, kind: type[Node] = Node, **changes: Any) -> Node:
        """A node with the deployment's settings; `changes` are fields of Settings, or of `kind`."""
        settings = settings_file.read(self.made.config(role))
        ours = {name: changes.pop(name) for name in list(changes) if hasattr(settings, name)}
        node = open_node(replace(settings, **ours))
        return kind(node.settings, node.config, node.identity, node.roster, **changes)

    def start(self, name: str, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self.tasks[name] = asyncio.ensure_future(main)
        return self.tasks[name]

    def serve(self, requests: int = 1, **nodes: Node) -> None:
        """server0, server1 and the dealer; `nodes` replaces some of them."""
        for role in SERVERS:
            self.start(role, party.main(nodes.get(role) or self.node(role), requests))
        self.start("dealer", dealer.main(nodes.get("dealer") or self.node("dealer")))

    def give_weights(self, node: Node | None = None) -> asyncio.Task[int]:
        return self.start("owner", owner.main(node or self.node("owner"), self.model.checkpoint))

    def ask(self, tokens: Tokens, node: Node | None = None, name: str = "client") -> asyncio.Task[client.Answer]:
        node = node or self.node("client")
        table = self.model.folded if node.config.embedding == "client" else None
        return self.start(name, client.ask(node, tokens, table))

    async def end(self, *names: str) -> dict[str, Any]:
        """What each of these (all, if none is named) returned or raised."""
        names = names or tuple(self.tasks)
        async with asyncio.timeout(LIMIT_S):
            found = await asyncio.gather(*(self.tasks[name] for name in names), return_exceptions=True)
        return dict(zip(names, found, strict=True))

    async def fail(self, *names: str) -> dict[str, str]:
        """The lines with which these end; each must be an error of ours."""
        found = await self.end(*names)
        for name, error in found.items():
            assert isinstance(error, MpcError) and error.exit_code, (name, error)
        return {name: str(error) for name, error in found.items()}

    async def cancel(self) -> None:
        """Whatever still runs when a test ends."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
