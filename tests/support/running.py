"""The tiny model's parties as processes over TLS, which tests kill and start again."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from limits import LIMIT_S
from parties import Tiny, deployed
from safetensors.torch import save_file

from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.party import client
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.party.node import open_node
from mpcnet.launch.simulation.processes import Deployment
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.families.bert import BERT
from mpcnet.models.checkpoints.parameter_names import LEAVES
from mpcnet.models.texts.tokens import Tokens

TIMEOUT_S = 15.0  # of the parties; one test stops a process, and waits until the others miss it
COMMANDS = {"server0": "party", "server1": "party", "dealer": "dealer", "owner": "serve-model"}


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """The checkpoint as transformers would write it."""
    shape = checkpoint.shape
    settings = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "vocab_size": shape.vocab,
        "hidden_size": shape.hidden, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "intermediate_size": shape.ffn, "max_position_embeddings": shape.positions, "type_vocab_size": shape.types,
        "layer_norm_eps": shape.eps,
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    save_file({_theirs(name): value for name, value in checkpoint.tensors.items()}, folder / "model.safetensors")


def _theirs(name: str) -> str:
    modules = {ours: theirs for theirs, ours in (BERT.outside | BERT.inside).items()}
    leaves = {ours: theirs for theirs, ours in LEAVES.items() if theirs in ("weight", "bias")}
    layer, _, rest = name.partition(".") if name.startswith("layer") else ("", "", name)
    module, _, leaf = rest.rpartition(".")
    return (f"encoder.layer.{layer[5:]}." if layer else "") + f"{modules[module]}.{leaves[leaf]}"


@dataclass(slots=True)
class Running:
    """server0, server1, dealer and owner, each a process; clients are tasks of the test."""

    made: Deployment
    model: Tiny
    folder: Path
    _read: dict[str, int] = field(default_factory=dict)

    def start(self, role: str) -> None:
        """For the first time, or after its end."""
        extra = ("--model", str(self.folder)) if role == "owner" else ()
        self.made.start(role, COMMANDS.get(role, "replica"), *extra)
        self._read[role] = 0

    async def restart(self, role: str) -> None:
        """After its end; returns when all are in a session with it, and the servers have the weights."""
        self.start(role)
        if role == "owner":
            return
        for server in ("server0", "server1"):
            await self.said(server, "weights opened")

    async def begun(self) -> "Running":
        """Likewise after all were started."""
        for server in ("server0", "server1"):
            await self.has_said(server, "weights opened")
        return self

    def log(self, role: str) -> str:
        return self.made.log(role).read_text()

    async def said(self, role: str, words: str) -> str:
        """The process's next line with these words, behind that which was found last."""
        self._read[role], line = await self._find(role, words, self._read[role])
        return line

    async def has_said(self, role: str, words: str) -> str:
        """The first line with these words, wherever it is."""
        return (await self._find(role, words, 0))[1]

    async def _find(self, role: str, words: str, start: int) -> tuple[int, str]:
        """Where the search goes on, and the line."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    lines = self.log(role).splitlines()
                    for index in range(start, len(lines)):
                        if re.search(words, lines[index]):
                            return index + 1, lines[index]
                    await asyncio.sleep(0.01)  # a file tells nobody that it has grown
        except TimeoutError:
            raise AssertionError(f"{role} has not said {words!r}, but: {self.log(role)}") from None

    def signal(self, role: str, number: signal.Signals) -> None:
        self.made.running[role].send_signal(number)

    async def ended(self, role: str) -> int:
        """Its exit code."""
        return await asyncio.to_thread(self.made.running[role].wait, LIMIT_S)

    async def kill(self, role: str) -> int:
        self.signal(role, signal.SIGKILL)
        return await self.ended(role)

    def ask(self, tokens: Tokens) -> asyncio.Task[Answer]:
        """One request; what was said before is not looked at any more."""
        for role in self._read:
            self._read[role] = len(self.log(role).splitlines())
        return asyncio.ensure_future(client.ask(open_node(settings_file.read(self.made.config("client"))), tokens))

    async def answered(self, tokens: Tokens, asked: asyncio.Task[Answer] | None = None) -> None:
        """The answer, which must be right."""
        async with asyncio.timeout(LIMIT_S):
            answer = await (asked or self.ask(tokens))
        self.model.check(tokens, answer.values)

    def check_logs(self) -> None:
        """Every line is one that a party has said, and none is a bug's."""
        for role in self.made.running:
            for line in self.log(role).splitlines():
                assert line.startswith(f"{role}  ") and "bug:" not in line, line


@contextmanager
def processes(model: Tiny, folder: Path) -> Iterator[Running]:
    """All four have been started; a run takes some two seconds of round trips, so that signals find it in its midst."""
    save(model.checkpoint, folder / "model")
    with deployed(model.config(), folder / "deployment", "rtt=80ms", timeout_s=TIMEOUT_S) as made:
        running = Running(made, model, folder / "model")
        for role in COMMANDS:
            running.start(role)
        yield running
