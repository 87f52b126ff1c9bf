"""Replicas of models that answer token by token: the indices of words, and the places of masks, are secret."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rogue
import torch
from limits import LIMIT_S
from rogue import RogueChannel, RogueNode
from served import served
from small_models import save_head
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertForMaskedLM,
    BertForTokenClassification,
)
from transformers.pipelines.token_classification import TokenClassificationPipeline

import mpcnet
from mpcnet.errors import MpcError
from mpcnet.launch.requests.fills import fills
from mpcnet.launch.requests.view import Known
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.texts.tokens import Reader
from mpcnet.transport.wire import Header

NAMES = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"}
TEXTS = ["the old ship sings", "a cat"]
MASKED = ["the old [MASK] sings", "a [MASK] eats [MASK]"]


def entities(folder: Path) -> list[Any]:
    """Of transformers: label and place of each, by text."""
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float64).eval()
    pipeline = TokenClassificationPipeline(
        model=model, tokenizer=AutoTokenizer.from_pretrained(folder), aggregation_strategy="simple"
    )
    return [[(one["entity_group"], one["start"], one["end"]) for one in found] for found in pipeline(TEXTS)]


async def tagged(client: mpcnet.AsyncClient) -> list[Any]:
    return [[(one.label, one.start, one.end) for one in found] for found in await client.tag(TEXTS)]


def words(folder: Path) -> list[Any]:
    """Of transformers: the likeliest for each mask, by text."""
    found = load_checkpoint(folder)
    tokenizer, reader = AutoTokenizer.from_pretrained(folder), Reader.of(folder, 64, None, found.shape)
    rows = zip(published(found)(MASKED), MASKED, strict=True)
    return [[each[0].text for each in fills(row, Known(text, reader.row(text), tokenizer))] for row, text in rows]


async def filled(client: mpcnet.AsyncClient) -> list[Any]:
    return [[found[0].text for found in each] for each in await client.fill(MASKED, top_k=1)]


async def flipped(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """The right frame but for a bit."""
    changed = np.frombuffer(payload, np.uint8).copy()
    changed[len(changed) // 2] ^= 2
    await channel.inner.send(header, changed.data)


@pytest.mark.parametrize(
    ("kind", "want", "ask"),
    [(BertForTokenClassification, entities, tagged), (BertForMaskedLM, words, filled)],
    ids=["entities", "masks"],
)
async def test_answers_for_tokens(
    tmp_path: Path, kind: Any, want: Callable[[Path], list[Any]], ask: Callable[[mpcnet.AsyncClient], Awaitable[Any]]
) -> None:
    """Two texts of several lengths in one run. A bit that server0 flips is named; then the answer is right."""
    more = {"id2label": NAMES} if kind is BertForTokenClassification else {}
    folder = save_head(tmp_path / "model", kind, std=0.4, **more)
    with served(folder, tmp_path / "made", replicas=("replica0",)) as parties:
        bad = parties.node(
            "server0", RogueNode, victim="server1", which=rogue.of_run("round"), when=2, misdeed=flipped
        )  # fmt: skip
        parties.serve(bad)
        async with (
            asyncio.timeout(2 * LIMIT_S),
            mpcnet.AsyncClient.connect(parties.made.config("client")) as client,
        ):
            with pytest.raises(MpcError, match=r"replica0: run 1: server0, stream 1, segment \d+ \(.*\): want the fra"):
                await ask(client)
            found = await ask(client)
        assert found == want(folder) and any(found)
        lines = [line for line in parties.logs["replica0"].lines if re.match(r"run [1-9]", line)]
        assert re.fullmatch(r"run 1: confirmed, \d+ rounds", lines[-1]), lines
        await parties.stop()
