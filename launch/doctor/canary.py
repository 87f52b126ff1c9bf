"""The doctor's canary: a client asks one fixed word, which says whether the deployment serves, not only that it runs.

It is a request like any other: it waits for its turn, and counts in the servers' metrics.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import torch

from mpcnet.errors import MpcError
from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.doctor.findings import Finding, error, ok, warning
from mpcnet.launch.extras import missing
from mpcnet.launch.party import client, client_model
from mpcnet.launch.party.log import Fact, Level, Log
from mpcnet.launch.party.node import Node, open_node
from mpcnet.models.images.reader import image_batch, rows_of
from mpcnet.models.private import program
from mpcnet.models.texts.tokens import Tokens

CANARY_S = 60.0  # a word is answered in seconds; a queue, a slow link and a large model take their time
WORD = "canary"
CHECK = "answer"
LOOK = "look at the party that it waits for, and at its log"


class _Unheard(Log):
    """The doctor says what it found; what the client says meanwhile is in :attr:`Node.waits` too."""

    def say(self, text: str, *, level: Level = "info", **facts: Fact) -> None:
        """See :meth:`mpcnet.launch.party.log.Log.say`: nothing."""


async def ask_canary(settings: Settings, limit_s: float) -> Finding:
    """One word through both servers, as this client."""
    try:
        node = open_node(replace(settings, log_file="", threads=0))
        node = replace(node, log=_Unheard(node.role))
        if node.config.embedding == "client":
            return ok(CHECK, "not asked for: with this program a client needs the model; mpcnet infer --model DIR asks")
        tokens = await asyncio.to_thread(_tokens, node)
    except MpcError as failure:
        return error(CHECK, str(failure), "copy this client's folder from the deployment again")
    except ModuleNotFoundError as absent:
        return warning(CHECK, f"not asked for: {missing(absent) or absent}", "install it, or leave out: --canary 0")
    return await _ask(node, tokens, limit_s)


async def _ask(node: Node, tokens: Tokens, limit_s: float) -> Finding:
    start_s = time.perf_counter()
    try:
        async with asyncio.timeout(limit_s):
            answer = await client.ask(node, tokens, None, program.answers(node.config)[0])
    except TimeoutError:
        waits = "; ".join(f"{role}: {reason}" for role, reason in sorted(node.waits.items()))
        found = f"one word was asked, and not answered within {limit_s:g} s"
        return error(CHECK, f"{found}: {waits or 'it waits for its turn, or is computed slowly'}", LOOK)
    except MpcError as failure:
        return error(CHECK, f"one word was asked, and not answered: {failure}", LOOK)
    seconds = time.perf_counter() - start_s
    text = f"one word was asked, and answered in {seconds:.1f} s"
    if answer.out_of_range and any(answer.out_of_range):
        return warning(CHECK, f"{text}, out of range", "make the program again with more texts: mpcnet calibrate")
    return ok(CHECK, text)


def _tokens(node: Node) -> Tokens:
    """The word, or two tokens where a model of random weights has no tokenizer; of a model of images a grey one."""
    if (image := node.config.shape.image) is not None:
        ends = torch.tensor([image.low, image.high])
        return image_batch(rows_of(image, ends.mean(0)[:, None, None].expand(-1, image.size, image.size))[None])
    if node.config.preprocessing is None:
        ids = torch.arange(2).reshape(1, 2) % node.config.shape.vocab
        places = torch.zeros(1, 1, dtype=torch.int64) if node.config.shape.fills else None
        return Tokens(ids, torch.zeros_like(ids), torch.ones_like(ids), places)
    reader = client_model.reader(node)
    head = node.config.shape.head
    text = (WORD, WORD) if head == "question-answering" else WORD
    return reader.pad([reader.asked(reader.tokenizer.mask_token if head == "fill-mask" else text)])
