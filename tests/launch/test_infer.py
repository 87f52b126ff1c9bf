"""`mpcnet infer` up to the servers: its tokenizer, its texts, and what it makes of answers."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from parties import deployed, tiny
from small_models import VOCABULARY, add_word, save_embedding, save_words
from typer.testing import CliRunner

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.launch.api.session import Session
from mpcnet.launch.cli import app
from mpcnet.launch.deployment.deploy import TOKENIZER
from mpcnet.launch.deployment.settings import read
from mpcnet.launch.party import client_model
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.party.node import open_node
from mpcnet.launch.requests.answers import OUT_OF_RANGE
from mpcnet.launch.simulation.processes import Deployment
from mpcnet.models.families.config import Config
from mpcnet.models.preprocessing import Preprocessing, copy_tokenizer, tokenizer_digest
from mpcnet.models.texts.tokens import Tokens

Asked = list[tuple[Tokens, tuple[Any, ...]]]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    save_words(tmp_path / "words")
    return tmp_path / "words"


def program(words: Path, labels: Sequence[str] = (), **preprocessing: Any) -> Config:
    """Of a tiny model whose table is as long as the tokenizer."""
    made = tiny(len(labels)).config()
    shape = replace(made.shape, vocab=len(VOCABULARY))
    how = Preprocessing(tokenizer_digest(words), **preprocessing)
    return replace(made, shape=shape, labels=tuple(labels), preprocessing=how)


@pytest.fixture
def deploy(tmp_path: Path, words: Path) -> Iterator[Callable[..., Deployment]]:
    with_ends = []

    def make(config: Config, tokenizer: Path | None = words) -> Deployment:
        context = deployed(config, tmp_path / "made")
        made = context.__enter__()
        with_ends.append(context)
        place = made.config("client").parent / TOKENIZER
        if tokenizer is not None and not place.exists():
            copy_tokenizer(tokenizer, place)
        return made

    yield make
    for context in with_ends:
        context.__exit__(None, None, None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the servers would have been asked. Their answer to a sentence is its count of tokens; 5 are out of range."""
    found: Asked = []

    async def ask(session: Session, tokens: Tokens, *kind: Any) -> Answer:
        found.append((tokens, kind[:2]))
        counts = tokens.mask.sum(1).double()
        values = counts[:, None] * torch.arange(1, 1 + session.node.config.shape.columns)
        if session.node.config.shape.tells_tokens:
            values = values[:, None].expand(-1, tokens.ids.shape[1], -1)
        out_of_range = [count == 5 for count in counts.tolist()] if kind[1] else None
        return Answer(values, out_of_range, ({}, {}), 0.1, 0.2, 0.3, 0.4)

    monkeypatch.setattr(Session, "ask", ask)
    return found


def run(made: Deployment, *line: object) -> tuple[int, Any, str]:
    """Exit code, JSON, and what was said."""
    words = [str(word) for word in ("infer", "--config", made.config("client"), *line)]
    done = CliRunner().invoke(app, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout), done.stderr


def test_one_bad_text_among_good_ones(deploy: Any, words: Path, asked: Asked) -> None:
    code, found, said = run(deploy(program(words)), "dog", "", "dog " * 40, "the dog")
    assert code == 65
    assert [list(row) for row in found["answers"]] == [["values"], ["error"], ["error"], ["values"]]
    assert found["answers"][0]["values"][:2] == [3.0, 6.0] and found["answers"][3]["values"][0] == 4.0
    assert "text 2: want words, got an empty text; text 3: want at most 16 tokens, got 42" in " ".join(said.split())
    assert [tokens.mask.sum(1).tolist() for tokens, _ in asked] == [[3, 4]]


def test_files_pairs_and_batches(deploy: Any, words: Path, asked: Asked, tmp_path: Path) -> None:
    made = deploy(program(words, ["relevance"]))
    file = tmp_path / "pairs.jsonl"
    file.write_text('["dog", "cat"]\n\n["dog", "the dog"]\n["not", "good"]\n')
    code, found, _ = run(made, "--pairs", file, "--batch", 2, "--blank", "empty", "--no-audit")
    assert code == 0 and len(found["requests"]) == 2
    score = {"name": "relevance", "score": 5.0}
    assert found["answers"] == [score, {"empty": True}, {"name": "relevance", "score": 6.0}, score]
    assert [kind for _, kind in asked] == [("logits", False)] * 2 and set(asked[0][0].types[0].tolist()) == {0, 1}
    file = tmp_path / "lines"
    file.write_text("dog\u2028cat\nnot\tgood\n\n")
    code, found, _ = run(made, "--file", file)
    assert code == 65 and found["answers"][0]["name"] == "relevance"
    assert found["answers"][1]["error"].startswith("line 2: want one text, got a tab in it")
    assert found["answers"][2]["error"] == "line 3: want words, got an empty text"


def test_answers_are_audited_and_not_given_out_when_out_of_range(deploy: Any, words: Path, asked: Asked) -> None:
    made = deploy(program(words, ["no", "yes"]))
    code, found, said = run(made, "dog", "the dog eats")
    assert code == 65 and asked[0][1] == ("logits", True)
    assert found["answers"][0]["label"] == "yes" and found["answers"][0]["logits"] == [3.0, 6.0]
    assert found["answers"][1] == {"error": f"text 2: {OUT_OF_RANGE}", "out_of_range": True}
    assert "text 2: no answer: a value left the range that the program was planned for" in " ".join(said.split())
    code, found, _ = run(made, "dog", "the dog eats", "--accept-out-of-range")
    assert code == 0 and found["answers"][1]["out_of_range"] is True and found["answers"][1]["logits"] == [5.0, 10.0]
    code, found, _ = run(made, "the dog eats", "--no-audit")
    assert code == 0 and "out_of_range" not in found["answers"][0]


def test_tokens_are_answered_by_row(deploy: Any, words: Path, asked: Asked, tmp_path: Path) -> None:
    batch = {"ids": [[1, 2, 3, 4, 5], [1, 2, 0, 0, 0]], "types": [[0] * 5] * 2, "mask": [[1] * 5, [1, 1, 0, 0, 0]]}
    (tmp_path / "tokens").write_text(json.dumps([batch]))
    made = deploy(program(words, ["no", "yes"]))
    code, (found,), _ = run(made, "--tokens", tmp_path / "tokens")
    assert code == 65 and (found["values"], found["out_of_range"]) == ([None, [2.0, 4.0]], [True, False])
    code, (found,), _ = run(made, "--tokens", tmp_path / "tokens", "--answer", "label", "--accept-out-of-range")
    assert code == 0 and found["labels"] == [1, 1]


def test_cut_texts_and_prompts(deploy: Any, words: Path, asked: Asked) -> None:
    made = deploy(program(words, max_tokens=6, prompt="the "))
    code, found, said = run(made, "dog", "dog eats not good cat", "--no-audit")
    assert code == 0 and (found["answers"][1]["cut_from"], found["answers"][1]["tokens"]) == (8, 6)
    assert "cut_from" not in found["answers"][0]
    assert "cut to 6 tokens, as the model's folder says: text 2" in said
    assert asked[0][0].ids[0, 1].item() == VOCABULARY.index("the")


def test_the_tokenizer_is_the_programs(deploy: Any, words: Path, asked: Asked, tmp_path: Path) -> None:
    """The client's folder brings it; another is refused, with both digests and what to do."""
    made = deploy(program(words))
    assert run(made, "dog", "--model", words, "--no-audit")[0] == 0
    other = save_embedding(tmp_path / "other")
    add_word(other, "zyzzyva")
    mine, theirs = tokenizer_digest(words)[:12], tokenizer_digest(other)[:12]
    want = (
        f"want the tokenizer of the program, sha256 {mine}..., got {theirs}...; leave out --model, name the directory"
    )
    with pytest.raises(LocalConfigError, match=want.replace(".", r"\.")):
        run(made, "dog", "--model", other)
    config = made.config("client").parent / TOKENIZER / "tokenizer_config.json"
    config.write_text(config.read_text().replace("true", "false"))
    with pytest.raises(LocalConfigError, match="want the tokenizer of the program"):
        run(made, "dog")
    assert not asked[1:]


def test_a_client_without_a_tokenizer(deploy: Any, words: Path) -> None:
    made = deploy(program(words), None)
    with pytest.raises(LocalConfigError, match="want the tokenizer that mpcnet init puts there, got none; copy it"):
        run(made, "dog")


def test_random_weights_take_no_texts(deploy: Any) -> None:
    node = open_node(read(deploy(tiny().config(), None).config("client")))
    with pytest.raises(LocalConfigError, match="want a program of a model with a tokenizer, got one of random weights"):
        client_model.reader(node)


def test_a_public_table_needs_its_model(deploy: Any, words: Path, tmp_path: Path) -> None:
    node = open_node(read(deploy(replace(program(words), embedding="client")).config("client")))
    with pytest.raises(LocalConfigError, match="want --model, whose embedding table this program leaves to the client"):
        client_model.public_table(node, None)
    save_embedding(tmp_path / "other", hidden_size=16)
    with pytest.raises(LocalConfigError, match="want a model of the program's shape, got another"):
        client_model.public_table(node, str(tmp_path / "other"))


def test_a_question_goes_before_every_context(deploy: Any, words: Path, asked: Asked) -> None:
    """And options of one kind of model are refused for another, before anything is asked."""
    made = deploy(
        replace(program(words), shape=replace(program(words).shape, head="question-answering", pooling="none"))
    )
    code, found, _ = run(made, "--question", "the dog?", "cat", "good cat", "", "--blank", "empty", "--no-audit")
    assert code == 0 and [set(row) for row in found["answers"]] == [{"answer", "score", "start", "end"}] * 2 + [
        {"empty"}
    ]
    assert asked[0][0].types.tolist() == [[0] * 5 + [1] * 2 + [0], [0] * 5 + [1] * 3]
    assert run(made, "cat", "--question", "the dog?", "--impossible", "--no-audit")[0] == 0
    with pytest.raises(
        LocalInputError, match="--aggregation: want a model of token-classification, got one of questio"
    ):
        run(made, "cat", "--aggregation", "first")
    with pytest.raises(LocalInputError, match="text 1: want a question and a context, got one text"):
        run(made, "cat")
    assert len(asked) == 2


def test_documents_of_a_query_and_pairs(deploy: Any, words: Path, asked: Asked) -> None:
    made = deploy(program(words, ["relevance"]))
    code, found, _ = run(made, "--query", "dog", "cat", "good cat", "--no-audit")
    assert code == 0 and [row["rank"] for row in found["answers"]] == [2, 1]
    assert asked[0][0].types.tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]]
    code, found, _ = run(made, "--pair", "dog", "cat", "dog", "good cat", "--no-audit")
    assert code == 0 and [sorted(row) for row in found["answers"]] == [["name", "score"]] * 2
    assert asked[1][0].ids.tolist() == asked[0][0].ids.tolist()
    with pytest.raises(LocalInputError, match="--pair: want an even number of words, got 3; put each text into quotes"):
        run(made, "--pair", "dog", "cat", "dog")


def test_a_query_wants_one_label(deploy: Any, words: Path, asked: Asked) -> None:
    with pytest.raises(LocalInputError, match="--query: want a cross-encoder, which has one label, got 2 labels"):
        run(deploy(program(words, ["no", "yes"])), "--query", "dog", "cat")
    assert not asked
