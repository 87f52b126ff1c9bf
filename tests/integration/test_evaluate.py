"""`mpcnet evaluate` and `mpcnet ranges` on a tiny classifier and data of the test's own, the first through processes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

from mpcnet.errors import LocalConfigError
from mpcnet.launch.cli import app
from mpcnet.models.checkpoints.demo import demo_model_dir
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import huggingface_classifier
from mpcnet.models.private.prepare import prepare
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.texts.tokens import encode

pytestmark = pytest.mark.slow

TEXTS = [
    "a film of rare charm .", "dull", "it never finds its way , and neither will you .", "lovely to look at !",
    "the plot is thin but the cast is not .", "no",
]  # fmt: skip
LABELS = [1, 0, 0, 1, 1, 0]
SEED = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, large enough that the texts differ, and a real tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "student"
    torch.manual_seed(3)
    shape = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64,
        initializer_range=0.15,
    )  # fmt: skip
    BertForSequenceClassification(shape).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(demo_model_dir() / name, folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glue")
    (folder / "SST-2").mkdir()
    lines = [f"{text}\t{label}" for text, label in zip(TEXTS, LABELS, strict=True)]
    (folder / "SST-2" / "dev.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    (folder / "STS-B").mkdir()
    (folder / "STS-B" / "dev.tsv").write_text("sentence1\tsentence2\tscore\nA man.\tA dog.\t1.25\nNo.\tA man.\t3\n")
    return folder


def run(*line: object) -> None:
    done = CliRunner().invoke(app, [str(word) for word in line], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_three_ways(model: Path, data: Path, tmp_path: Path) -> None:
    """Four of six examples privately, in two requests; what is compared belongs together, and costs what is planned."""
    target = tmp_path / "found.json"
    run(
        "evaluate", "--task", "sst-2", "--data", data, "--model", model, "--mpc-limit", 4, "--batch", 2,
        "--seed", SEED, "--timeout", 60, "--out", tmp_path / "out", "--json", target,
    )  # fmt: skip
    found = json.loads(target.read_text())
    assert (found["model"], found["available"], found["n"], found["private_n"]) == ("student", 6, 6, 4)
    assert found["requests"] == 2
    floats, oracle, private = (torch.tensor(found["outputs"][way]) for way in ("float", "oracle", "private"))
    classify = huggingface_classifier(load_checkpoint(model))
    alone = {text: classify(encode(model, [text], 64))[0] for text in TEXTS}
    places = [min(range(6), key=lambda i: (alone[TEXTS[i]] - row).abs().max().item()) for row in floats.double()]
    assert len(set(places)) == 4 and places == sorted(places)
    assert found["labels"] == [LABELS[place] for place in places]
    for row, place in zip(floats.double(), places, strict=True):
        assert (row - alone[TEXTS[place]]).abs().max() < 1e-6
    assert (floats[0] - floats[1]).abs().max() > 0.02  # far above what is allowed below
    assert 0 < (private - oracle).abs().max() < 0.004
    assert (oracle - floats).abs().max() < 0.004
    differences = found["differences"]
    assert differences["transformers-float"]["largest"] < 1e-9
    assert differences["private-oracle"]["largest"] == pytest.approx((private - oracle).abs().max().item(), abs=1e-6)
    right = [row.argmax().item() == label for row, label in zip(private, found["labels"], strict=True)]
    assert found["private_scores"]["private"]["accuracy"] == sum(right) / 4
    guesses = [alone[text].argmax().item() == label for text, label in zip(TEXTS, LABELS, strict=True)]
    assert found["scores"]["float"]["accuracy"] == pytest.approx(sum(guesses) / 6)
    check_cost(found, model, [len(encode(model, [TEXTS[place]], 64).ids[0]) for place in places])
    text = (tmp_path / "out" / "evaluation.md").read_text()
    assert "sst-2, student (fast, exact): accuracy" in text and str(tmp_path) not in text
    assert json.loads((tmp_path / "out" / "evaluations.jsonl").read_text()) == found


def check_cost(found: dict, model: Path, lengths: list[int]) -> None:
    """The two shortest shared a request, and so did the two longest."""
    plans = Plans(prepare(str(model), "fast", "exact", 1).config)
    ordered = sorted(lengths)
    ledgers = [plans.infer(Size(2, length, audit=True)).ledger.total() for length in (ordered[1], ordered[3])]
    assert found["rounds"] == [min(cost.rounds for cost in ledgers), max(cost.rounds for cost in ledgers)]
    assert found["sent_bytes"] == sum(cost.sent_bytes for cost in ledgers) / 4


def test_ranges(model: Path, data: Path, tmp_path: Path) -> None:
    """Of a task's texts and of a file's; an embedding model takes the texts of a pair one by one."""
    texts = tmp_path / "texts.txt"
    texts.write_text("A first text.\n\nAnd another one.\n")
    out = tmp_path / "out"
    run("ranges", "--model", model, "--task", "sst-2", "--data", data, "--out", out)
    run("ranges", "--model", model, "--file", texts, "--softmax", "2quad", "--out", out)
    run("ranges", "--task", "sts-b", "--data", data, "--out", out)
    rows = [json.loads(line) for line in (out / "ranges.jsonl").read_text().splitlines()]
    assert [(row["data"], row["softmax"], row["n"]) for row in rows] == [
        ("sst-2 dev", "exact", 6), ("texts.txt", "2quad", 2), ("sts-b dev", "exact", 3)
    ]  # fmt: skip
    for row in rows:
        assert 0.3 < max(site["largest"] for site in row["sites"]) < 1.5
        assert row["shares"]["limit"] == 0.0
    assert "student (2quad), texts.txt: 0 of 2 texts pass a limit" in (out / "ranges.md").read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["evaluate", "--task", "sst-2", "--model", "demo"], "demo: want a checkpoint with a classifier for sst-2, got an"),
        (["evaluate", "--task", "sts-b", "--model", "MODEL"], "student: want 1 outputs for sts-b, got 2"),
        (["evaluate", "--task", "sst3", "--model", "MODEL"], "task: want one of cola, .*, got sst3"),
        (["evaluate", "--task", "cola", "--model", "MODEL"], "cola: want .*dev.tsv, got no such file"),
        (["ranges", "--task", "sst-2", "--file", "texts.txt"], "want --file, or --task and --data, got both or neither"),
        (["ranges", "--task", "sst-2", "--model", "bert-tiny"], "bert-tiny: want a checkpoint, got RANDOM weights"),
    ],
)  # fmt: skip
def test_what_is_refused(line: list[str], words: str, model: Path, data: Path) -> None:
    line = [str(model) if word == "MODEL" else word for word in line]
    with pytest.raises(LocalConfigError, match=words):
        run(*line, "--data", data)
