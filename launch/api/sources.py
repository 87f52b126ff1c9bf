"""Where a client's servers are: a deployment that others run, or processes of this machine that are ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mpcnet.aio.tasks import together
from mpcnet.arrays import accelerator
from mpcnet.arrays.native import library
from mpcnet.errors import ChannelError, LocalConfigError, RemoteAbort
from mpcnet.launch.api.progress import Step
from mpcnet.launch.api.quiet import LibraryLog
from mpcnet.launch.deployment import settings
from mpcnet.launch.party import client_model
from mpcnet.launch.party.client_model import Table
from mpcnet.launch.party.node import Node, open_node
from mpcnet.launch.simulation.network import Loopback, Network
from mpcnet.launch.simulation.processes import Deployment, deployment
from mpcnet.models.families.config import Embedding
from mpcnet.models.images.reader import reader_of
from mpcnet.models.private.prepare import Prepared, off_domain, other_softmax, prepare
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.tokens import Reader
from mpcnet.transport.latency import parse_link
from mpcnet.transport.rendezvous import SERVERS

T = TypeVar("T")
Say = Callable[[str], None]
COMMANDS = {"dealer": "dealer", "server0": "party", "server1": "party", "owner": "serve-model"}
PARTY_TIMEOUT_S = 120.0  # that one process waits for another: machines may be busy
NOTICE_S = 1.0  # a connection that ends is noticed sooner than the process that has ended


@dataclass(frozen=True, slots=True)
class Opened:
    """A client's node, and what makes tokens of texts for its program (slow: it imports transformers)."""

    node: Node
    reader: Callable[[], Reader]
    table: Table = None


class Source(Protocol):
    """How a client gets to its servers."""

    async def open(self, step: Step) -> Opened:
        """Everything that is there before the first request.

        :raises MpcError: a setting, a file or the model cannot be used, or a process has ended.
        """

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, unless what it depends on ends."""

    def stop(self) -> None:
        """End what is ours, and nothing else. May be called again, and from any thread."""


def library_node(path: Path) -> Node:
    """A client's, for a process that is not ours: it keeps its threads, and its log is Python's."""
    node = open_node(replace(settings.read(path), threads=0, log_file=""))
    if not node.role.startswith("client"):
        raise LocalConfigError(
            f"{path}: want the settings of a client, got those of {node.role}; name client/party.toml"
        )
    return replace(node, log=LibraryLog(node.role))


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A deployment, by its client's party.toml; `model` has the embedding table where clients look tokens up."""

    path: Path
    model: str | None = None

    def __str__(self) -> str:
        return str(self.path)

    async def open(self, step: Step) -> Opened:
        """See :class:`Source`."""
        node = await asyncio.to_thread(library_node, self.path)  # what its protocols compute takes a moment
        table = await asyncio.to_thread(client_model.public_table, node, self.model)
        return Opened(node, lambda: client_model.reader(node, self.model), table)

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """See :class:`Source`: whoever runs the servers looks after them."""
        return await work

    def stop(self) -> None:
        """See :class:`Source`."""


def elsewhere(path: str | Path, model: str | Path | None) -> Elsewhere:
    """As callers name it: a client's party.toml, or the folder that it is in."""
    found = Path(path)
    return Elsewhere(found / settings.FILE if found.is_dir() else found, None if model is None else str(model))


class Here:
    """server0, server1, dealer and owner as processes of this machine; the client is the calling process."""

    def __init__(
        self, prepare: Callable[[Say], Prepared], model: str, network: Network, keep: Path | None = None, **more: Any
    ) -> None:
        """`model` is what the owner serves; `more` are settings of every process, `threads` and `timeout_s` always."""
        self._prepare, self._model, self._network, self._settings = prepare, model, network, more
        self._keep = keep
        self._stack = contextlib.ExitStack()
        self._made: Deployment | None = None

    def __str__(self) -> str:
        return f"local {self._model}"

    async def open(self, step: Step) -> Opened:
        """See :class:`Source`."""
        prepared = await asyncio.to_thread(self._prepare, step.say)
        step.say("starting server0, server1, dealer and owner")
        made = self._made = self._stack.enter_context(
            deployment(prepared.config, self._network, keep=self._keep, **self._settings)
        )
        for role, command in COMMANDS.items():
            made.start(role, command, *(["--model", self._model] if role == "owner" else []))
        step.say("the owner shares the weights")
        await asyncio.to_thread(made.ready, SERVERS)
        node, found = library_node(made.config("client")), prepared.checkpoint
        return Opened(
            node,
            lambda: reader_of(found.source, prepared.config.formats.longest, found.preprocessing, found.shape),
            prepared.folded if prepared.config.embedding == "client" else None,
        )

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """See :class:`Source`.

        :raises PartyFailed: a process has ended.
        """
        made = self._made
        assert made is not None
        try:
            return await together(work, self._watch(made))
        except (ChannelError, RemoteAbort):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NOTICE_S):
                    await self._end(made)
            await asyncio.to_thread(made.check_all_run)
            raise

    async def _watch(self, made: Deployment) -> None:
        """:raises PartyFailed: as soon as a process has ended."""
        await self._end(made)
        await asyncio.to_thread(made.check_all_run)

    async def _end(self, made: Deployment) -> None:
        """Until a process has ended, and its exit code is known."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        with contextlib.ExitStack() as watched:
            for process in made.running.values():
                if process.poll() is not None:
                    over.set()
                    continue
                try:
                    handle = os.pidfd_open(process.pid)
                except ProcessLookupError:  # whoever started it has reaped it
                    over.set()
                    continue
                watched.callback(os.close, handle)
                loop.add_reader(handle, over.set)
                watched.callback(loop.remove_reader, handle)
            await over.wait()
        await asyncio.to_thread(made.reap)

    def finish(self) -> None:
        """Ask the processes to stop, and wait until they have.

        :raises PartyFailed: one has not ended well.
        """
        if self._made is not None:
            self._made.finish(tuple(COMMANDS))

    def stop(self) -> None:
        """See :class:`Source`."""
        self._stack.close()


def here(
    model: str | Path, suite: str, softmax: Softmax | None, embedding: Embedding, net: str, threads: int, streams: int,
    device: str, calibration: str | Path | None, keep: str | Path | None,
) -> Here:  # fmt: skip
    """As callers name it.

    :raises LocalConfigError: the device or the link is none.
    """
    parse_link(net)
    accelerator.describe(device)  # it is there

    def prepared(say: Say) -> Prepared:
        file = None if calibration is None else Path(calibration)
        made = prepare(str(model), suite, softmax, 0, file, embedding, say)
        missing = library.MISSING if library.best() < 0 else ""
        for note in filter(None, (made.note, other_softmax(made.checkpoint, made.config), off_domain(made), missing)):
            LibraryLog("client").say(note, level="warning")
        return made

    return Here(
        prepared, str(model), Loopback(net), None if keep is None else Path(keep),
        threads=threads, timeout_s=PARTY_TIMEOUT_S, streams=streams, device=device,
    )  # fmt: skip
