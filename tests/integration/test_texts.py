"""Texts from a client's words to its answers, through the real parties: pairs, bad ones among good ones, and audits."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from limits import LIMIT_S
from parties import Parties
from served import served
from small_models import layout, save_classifier, save_embedding

import mpcnet
from mpcnet.errors import LocalInputError
from mpcnet.launch import infer
from mpcnet.launch.party import client, client_model
from mpcnet.launch.requests import asked
from mpcnet.launch.requests.answers import OUT_OF_RANGE
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.texts.tokens import Text


async def answer(parties: Parties, target: Path, texts: list[Text], **wanted: Any) -> tuple[int, list[dict[str, Any]]]:
    """As `mpcnet infer` does; its exit code and its entries."""
    node = parties.node("client")
    found = asked.ask(asked.words(texts), client_model.reader(node))
    how = infer.Wanted(**({"answer": "logits", "audit": True, "accept": False, "attempts": 1} | wanted))
    async with asyncio.timeout(LIMIT_S):
        code = await infer._ask_texts(node, found, None, how, 2, str(target))
    return code, json.loads(await asyncio.to_thread(target.read_text))["answers"]


async def test_pairs_and_one_bad_text(tmp_path: Path) -> None:
    """Their scores are transformers', each text alone, and nobody's answer moves."""
    folder = save_classifier(tmp_path / "model", 1)
    texts: list[Text] = [("the dog eats", "not good"), "", "a cat sings", ("good", "good")]
    theirs = published(load_checkpoint(folder))([texts[0], texts[2], texts[3]])[:, 0].tolist()
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        code, found = await answer(parties, tmp_path / "answers.json", texts)
        await parties.stop()
    assert code == 65 and found[1] == {"error": "text 2: want words, got an empty text"}
    for row, score in zip((found[0], found[2], found[3]), theirs, strict=True):
        assert row["name"] == "LABEL_0" and abs(row["score"] - score) < 0.01
    assert max(theirs) - min(theirs) > 0.05


async def test_out_of_range_is_no_answer(tmp_path: Path) -> None:
    """Unless it is asked for, and from Python neither."""
    folder = save_embedding(tmp_path / "model")
    with served(folder, tmp_path / "made", astray=True) as parties:
        parties.serve()
        code, found = await answer(parties, tmp_path / "answers.json", ["the dog"])
        assert (code, found) == (65, [{"error": f"text 1: {OUT_OF_RANGE}", "out_of_range": True}])
        code, found = await answer(parties, tmp_path / "answers.json", ["the dog"], accept=True)
        assert code == 0 and found[0]["out_of_range"] is True and len(found[0]["values"]) == 32
        node = parties.node("client")
        tokens = asked.ask(asked.words(["the dog"]), client_model.reader(node)).batches(1)[0]
        silent = await client.ask(node, tokens)
        assert silent.out_of_range == [True] and bool(silent.values.isnan().all())
        unaudited = await client.ask(node, tokens, audit=False)
        assert unaudited.out_of_range is None and not bool(unaudited.values.isnan().any())
        await parties.stop()


async def test_embeddings_are_cut_and_normalised_as_the_folder_asks(tmp_path: Path) -> None:
    folder = save_embedding(tmp_path / "model")
    layout(folder, "Normalize", sentence_bert_config={"max_seq_length": 5})
    theirs = published(load_checkpoint(folder))(["the dog eats a cat"])
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        code, found = await answer(parties, tmp_path / "answers.json", ["the dog eats a cat"])
        await parties.stop()
    mine = torch.tensor([found[0]["values"]], dtype=torch.float64)
    assert (
        code == 0 and found[0]["cut_from"] == 7 and abs(mine.norm().item() - 1) < 1e-9 and (mine - theirs).norm() < 0.01
    )


async def test_truncated_embeddings(tmp_path: Path) -> None:
    """The first values alone, of the vector that was normalised; and as many columns of no texts."""
    folder = save_embedding(tmp_path / "model")
    layout(folder, "Normalize", config_sentence_transformers={"truncate_dim": 8})
    theirs = published(load_checkpoint(folder))(["the dog eats a cat"])
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with asyncio.timeout(LIMIT_S), mpcnet.AsyncClient.connect(parties.made.config("client")) as private:
            found = torch.from_numpy(await private.embed(["the dog eats a cat"]))
            assert (await private.embed([])).shape == (0, 8)
            four = torch.from_numpy(await private.embed(["the dog eats a cat"], dim=4))
            with pytest.raises(LocalInputError, match="dim: want 1 to 8 columns, got 16"):
                await private.embed(["the dog"], dim=16)
        await parties.stop()
    assert found.shape == theirs.shape == (1, 8) and (found - theirs).norm() < 0.01
    unit = torch.nn.functional.normalize(theirs[:, :4], dim=1)
    assert four.shape == (1, 4) and (four - unit).norm() < 0.02
