"""Models whose answers are parts of a text, over TLS: texts in, parts out, by the Python API."""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from limits import LIMIT_S
from served import served
from small_models import layout, save_embedding, save_head
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from transformers.pipelines.token_classification import TokenClassificationPipeline
from typer.testing import CliRunner

import mpcnet
from mpcnet.errors import LocalInputError
from mpcnet.launch.cli import app
from mpcnet.launch.requests.fills import fills
from mpcnet.launch.requests.spans import best_span
from mpcnet.launch.requests.view import Known
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.texts.tokens import Reader

NAMES = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"}
TEXTS = ["the old ship sings", "a cat", "the dog eats 12 cats, not good"]


async def test_entities(tmp_path: Path) -> None:
    """Those of transformers' pipeline, of texts of several lengths in one request; and labels alone, without a score."""
    folder = save_head(tmp_path / "model", BertForTokenClassification, std=0.4, id2label=NAMES)
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float64).eval()
    pipeline = TokenClassificationPipeline(
        model=model, tokenizer=AutoTokenizer.from_pretrained(folder), aggregation_strategy="simple"
    )
    theirs = pipeline(TEXTS)
    places = [[(one["entity_group"], one["start"], one["end"]) for one in found] for found in theirs]
    assert sum(map(len, places)) > 3
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with (
            asyncio.timeout(2 * LIMIT_S),
            mpcnet.AsyncClient.connect(parties.made.config("client")) as private,
        ):
            mine = await private.tag(TEXTS)
            assert private.last.requests == 1 and isinstance(mine[0][0], mpcnet.Entity)
            assert [[(e.label, e.start, e.end) for e in found] for found in mine] == places
            scores = [one["score"] for found in theirs for one in found]
            assert [e.score for found in mine for e in found] == pytest.approx(scores, abs=0.01)
            labelled = await private.tag(TEXTS, scores=False)
            assert [[(e.label, e.start, e.end) for e in found] for found in labelled] == places
            assert {e.score for found in labelled for e in found} == {None}
            pair, good = await private.tag([("a", "cat"), TEXTS[0]], on_error="return")  # type: ignore[list-item]
            assert str(pair) == "text 1: want one text to tag, got a pair" and [e.text for e in good] == [
                e.text for e in mine[0]
            ]
            for call, words in (
                (private.embed(TEXTS), r"embed: want a model of embeddings, got a classifier of tokens of 4 label\(s\); "
                 "call tag"),
                (private.classify(TEXTS), "classify: want a classifier, got a classifier of tokens"),
                (private.tag(TEXTS, aggregation="last"), "aggregation: want none, simple, first, average, max, got 'l"),
            ):  # fmt: skip
                with pytest.raises(LocalInputError, match=words):
                    await call
        await parties.stop()
    assert parties.lost() == []


async def test_answers_to_questions(tmp_path: Path) -> None:
    """The best spans of transformers' logits; contexts of several lengths in one request."""
    folder = save_head(tmp_path / "model", BertForQuestionAnswering, std=0.5)
    model = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer, reader = AutoTokenizer.from_pretrained(folder), Reader.of(folder, 64)
    pairs = [("not the dog?", context) for context in (*TEXTS, "good")]
    want = []
    for pair in pairs:
        with torch.inference_mode():
            output = model(**tokenizer(*pair, return_tensors="pt"))
        logits = torch.stack([output.start_logits[0], output.end_logits[0]], -1)
        want.append(best_span(logits, Known(pair, reader.row(pair), tokenizer), 4))
    assert len({(span.start, span.end) for span in want}) > 1
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with (
            asyncio.timeout(2 * LIMIT_S),
            mpcnet.AsyncClient.connect(parties.made.config("client")) as private,
        ):
            mine = await private.answer(pairs, max_answer_len=4)
            assert [(span.text, span.start, span.end) for span in mine] == [(s.text, s.start, s.end) for s in want]
            assert [span.score for span in mine] == pytest.approx([span.score for span in want], abs=0.01)
            for call, words in (
                (private.answer(["the dog"]), "text 1: want a question and a context, got one text"),  # type: ignore[list-item]
                (private.answer(pairs, max_answer_len=0), "max_answer_len: want a whole number of at least 1, got '0'"),
                (private.tag(TEXTS), "tag: want a classifier of tokens, got a model that answers questions; call answ"),
            ):
                with pytest.raises(LocalInputError, match=words):
                    await call
        await parties.stop()


async def test_documents_are_ranked(tmp_path: Path) -> None:
    """By a cross-encoder's sigmoid, best first; a bad document comes behind."""
    folder = save_head(tmp_path / "model", BertForSequenceClassification, num_labels=1)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sentence_transformers": {"version": "5.0.0"}}))
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = [model(**tokenizer("not a dog?", text, return_tensors="pt")).logits.item() for text in TEXTS]
    best = sorted(range(len(TEXTS)), key=lambda place: -logits[place])
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with (
            asyncio.timeout(2 * LIMIT_S),
            mpcnet.AsyncClient.connect(parties.made.config("client")) as private,
        ):
            found = await private.rerank("not a dog?", iter(TEXTS))
            assert [one.index for one in found] == best and [one.document for one in found] == [TEXTS[i] for i in best]
            scores = [torch.tensor(logits[place]).sigmoid().item() for place in best]
            assert [one.score for one in found] == pytest.approx(scores, abs=0.005)
            top = await private.rerank("not a dog?", [*TEXTS, ""], top_k=1, on_error="return")
            assert isinstance(top[0], mpcnet.Ranked) and top[0].index == best[0]
            assert str(top[1]) == "text 4: want words, got an empty text" and len(top) == 2
            (one,) = await private.classify([("not a dog?", TEXTS[best[0]])])
            assert one.score == pytest.approx(scores[0], abs=0.005)
            with pytest.raises(LocalInputError, match="want a list of texts, got one text"):
                await private.rerank("not a dog?", "a cat")
            with pytest.raises(
                LocalInputError, match=r"tag: want a classifier of tokens, got a classifier of 1 label\("
            ):
                await private.tag(TEXTS)
        await parties.stop()


async def test_only_a_cross_encoder_ranks(tmp_path: Path) -> None:
    folder = save_head(tmp_path / "model", BertForSequenceClassification, num_labels=3)
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with asyncio.timeout(LIMIT_S), mpcnet.AsyncClient.connect(parties.made.config("client")) as private:
            with pytest.raises(
                LocalInputError, match=r"rerank: want a cross-encoder, which has one label, got a class"
            ):
                await private.rerank("a", ["b"])
            assert private.last.requests == 0
        await parties.stop()


async def test_the_first_columns_of_embeddings(tmp_path: Path) -> None:
    """Of length 1 again where the model normalises; at the plan's cost, and beside requests for whole ones."""
    folder = save_embedding(tmp_path / "model")
    layout(folder, "Normalize")
    plain = published(load_checkpoint(folder))(TEXTS)[:, :8]
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with (
            asyncio.timeout(2 * LIMIT_S),
            mpcnet.AsyncClient.connect(parties.made.config("client")) as private,
        ):
            few, whole = await asyncio.gather(private.embed(TEXTS, dim=8), private.embed(TEXTS))
            assert few.shape == (3, 8) and whole.shape == (3, 32)
            assert torch.tensor(few).norm(dim=1) == pytest.approx([1.0] * 3, abs=1e-6)
            assert torch.cosine_similarity(torch.tensor(few).double(), plain).min() > 0.999
            await private.embed(TEXTS, dim=8)
            size = Size(3, 12, audit=True, extent=8)
            planned = Plans(parties.nodes["server0"].config).infer(size).ledger.total()
            assert (private.last.rounds, private.last.sent_bytes) == (planned.rounds, planned.sent_bytes)
            for dim in (-1, 33, True):
                with pytest.raises(LocalInputError, match=f"dim: want 1 to 32 columns, got {dim}"):
                    await private.embed(TEXTS, dim=dim)
            assert (await private.embed([], dim=4)).shape == (0, 4)
        await parties.stop()


async def test_masks_are_filled(tmp_path: Path) -> None:
    """Texts with different counts of masks in one request, of which servers learn the largest count alone."""
    folder = save_head(tmp_path / "model", BertForMaskedLM, std=0.4)
    texts = ["the [MASK] eats", "a [MASK] ship sings [MASK], not good", ("[MASK]", "the cat")]
    found = load_checkpoint(folder)
    tokenizer, reader = AutoTokenizer.from_pretrained(folder), Reader.of(folder, 64, None, found.shape)
    logits = published(found)(texts)
    want = [fills(row, Known(text, reader.row(text), tokenizer)) for text, row in zip(texts, logits, strict=True)]
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with (
            asyncio.timeout(2 * LIMIT_S),
            mpcnet.AsyncClient.connect(parties.made.config("client")) as private,
        ):
            mine = await private.fill(texts)
            assert [len(each) for each in mine] == [1, 2, 1] and private.last.requests == 1
            planned = Plans(parties.nodes["server0"].config).infer(Size(3, 10, audit=True, extent=2)).ledger.total()
            assert (private.last.rounds, private.last.sent_bytes) == (planned.rounds, planned.sent_bytes)
            for ours, theirs in zip(mine, want, strict=True):
                for words, others in zip(ours, theirs, strict=True):
                    assert words[0].text == others[0].text and isinstance(words[0], mpcnet.Fill)
                    assert [word.score for word in words] == pytest.approx([word.score for word in others], abs=0.01)
            one, two = await asyncio.gather(private.fill(texts[:1], top_k=1), private.fill(texts[1:2], top_k=1))
            assert one[0][0][0].text == mine[0][0][0].text and [w[0].text for w in two[0]] == [
                w[0].text for w in mine[1]
            ]
            for call, words in (
                (private.fill(["the dog"]), r"text 1: want a \[MASK\] to fill, got a text without"),
                (private.fill(texts, top_k=0), "top_k: want a whole number of at least 1, got '0'"),
                (private.embed(texts), "embed: want a model of embeddings, got a model that fills masks; call fill"),
            ):
                with pytest.raises(LocalInputError, match=words):
                    await call
        await parties.stop()
    assert parties.lost() == []


def test_the_command_line_shows_entities_from_processes(tmp_path: Path) -> None:
    """`mpcnet simulate`: five processes, the plan's cost, the entities of transformers' logits beside; and as JSON."""
    folder = save_head(
        tmp_path / "model", BertForTokenClassification, std=0.4, id2label=NAMES, max_position_embeddings=24, seed=9
    )
    file = tmp_path / "out.json"
    line = ["simulate", "--model", str(folder), "--aggregation", "none", *TEXTS, "--json", str(file)]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    document = json.loads(file.read_text())
    assert document["compared_with"] == "transformers" and document["wrong"] == []
    entities, theirs = (
        [e for row in document["answers"] for e in row[name]] for name in ("entities", "plain_entities")
    )
    assert entities and set(entities[0]) == {"label", "score", "text", "start", "end"}
    assert [(e["label"], e["start"]) for e in entities] == [(e["label"], e["start"]) for e in theirs]
    shown = " ".join(done.stdout.split())
    assert f"{entities[0]['text']} ({entities[0]['label']} {entities[0]['score']:.2f})" in shown and "tokens" in shown
