"""The demo model in five processes over TLS, beside the float model and the plan."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kernels import without_kernels
from limits import LIMIT_S
from rich.console import Console
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from mpcnet.errors import LocalInputError
from mpcnet.launch import cli
from mpcnet.launch.reporting.report import COST_KEYS
from mpcnet.launch.reporting.screen import console
from mpcnet.launch.simulate import command
from mpcnet.launch.simulate.localhost import Options, Outcome, simulate
from mpcnet.launch.simulation.processes import Deployment, PartyFailed
from mpcnet.models.formats import calibrated
from mpcnet.models.formats.calibrated import Coverage, Kept
from mpcnet.models.private.prepare import prepare

pytestmark = pytest.mark.slow

TEXTS = ["A private sentence.", "Nobody reads this one either."]
KEYS = {
    "rounds", "sent_bytes", "received_bytes", "offline_bytes", "peak_bytes", "operations", "seconds_online",
    "seconds_offline", "seconds_total", "min_cosine", "max_abs_error", "net", "commit", "machine",
}  # fmt: skip
LENGTH = 8


def check(document: dict) -> None:
    assert set(document) >= KEYS
    assert document["min_cosine"] > 0.999 and document["max_abs_error"] < 0.01
    assert document["sentences"] == 2 and document["random_weights"] is False
    phases = [document[f"seconds_{phase}"] for phase in ("upload", "offline", "online")]
    assert document["seconds_total"] == sum(phases) and all(seconds > 0 for seconds in phases)
    assert document["peak_bytes"] > 100e6
    for key in ("rounds", "sent_bytes", "received_bytes"):
        assert document[key] == sum(row[key] for row in document["operations"]) > 0
    assert document["offline_bytes"] == max(document["dealt_bytes"]) > 0


def planned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """What `mpcnet plan --json` prints."""
    monkeypatch.setattr(sys, "argv", ["mpcnet", "plan", "--json", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_says_what_exceeds_the_buffer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = (planned(monkeypatch, capsys, "--length", "16", "--batch", batch) for batch in ("1", "256"))
    assert small["buffer"] == {
        "limit_bytes": 2 << 30, "before_run_bytes": small["dealt_bytes"], "exceeded": False
    }  # fmt: skip
    limit_bytes, before = large["buffer"]["limit_bytes"], large["buffer"]["before_run_bytes"]
    assert large["buffer"]["exceeded"] and limit_bytes - (256 << 20) < max(before) <= limit_bytes
    assert large["peak_bytes"] - small["peak_bytes"] < 8 * limit_bytes
    monkeypatch.setattr(sys, "argv", ["mpcnet", "plan", "--length", "16", "--batch", "256"])
    with pytest.raises(SystemExit):
        cli.main()
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "more than a server's buffer of 2.15 GB (buffer_mib): the run begins with " in told


def by_name(document: dict) -> list[dict]:
    """Its operations. An audit has some wherever a value is looked at, and is listed where it first cost anything."""
    return sorted(document["operations"], key=lambda row: row["name"])


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Two requests, of one sentence each, in the fast suite."""
    return simulate(TEXTS, Options(length=LENGTH, batch=1, timeout_s=60), console)


def test_simulate(outcome: Outcome) -> None:
    check(outcome.document)
    assert outcome.private.shape == outcome.plain.shape == (2, 384)
    assert len(outcome.document["requests"]) == 2


def test_a_simulation_without_kernels_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mpcnet.launch.simulate.localhost.run", lambda *arguments: None
    )  # what it would cost is another test's
    said = Console(file=io.StringIO())
    with without_kernels():
        simulate(TEXTS, Options(length=LENGTH), said)
    assert "warning: native kernels: not built" in said.file.getvalue()


def test_two_requests_cost_twice_the_plan(outcome: Outcome, monkeypatch, capsys) -> None:
    plan = planned(monkeypatch, capsys, "--length", str(LENGTH), "--batch", "1")
    for want, got in zip(by_name(plan), by_name(outcome.document), strict=True):
        twice = {key: 2 * want[key] for key in ("rounds", "sent_bytes", "received_bytes")}
        twice |= {"name": want["name"], "dealt_bytes": [2 * value for value in want["dealt_bytes"]]}
        assert {key: got[key] for key in twice} == twice


def test_without_an_audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for by whoever does not say otherwise; who does, pays less."""
    found = simulate(TEXTS, Options(length=LENGTH, audit=False, timeout_s=60), console).document
    check(found)
    assert (found["audit"], found["out_of_range"]) == (False, None)
    plan = planned(monkeypatch, capsys, "--length", str(LENGTH), "--batch", "2", "--no-audit")
    assert {key: found[key] for key in COST_KEYS} == {key: plan[key] for key in COST_KEYS}
    audited = planned(monkeypatch, capsys, "--length", str(LENGTH), "--batch", "2")
    assert audited["audit"] is True and audited["offline_bytes"] > plan["offline_bytes"]


def test_an_answer_out_of_range_is_not_given_out(tmp_path: Path, monkeypatch, capsys) -> None:
    """With a calibration of texts that were nothing like these."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*more: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mpcnet", *line, *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    known = prepare("demo", "fast", "exact").calibration
    ranges = {softmax: dict(sites) for softmax, sites in known.ranges.items()}
    for site, seen in known.ranges["exact"].items():
        if site.startswith("layer3.head") and site.endswith(".scores"):
            ranges["exact"][site] = replace(seen, min=seen.min + 100, max=seen.max + 100)
    kept = Kept(replace(known, ranges=ranges), Coverage(512, "by hand"))
    calibrated.write(kept, tmp_path / "calibration.json")
    file = tmp_path / "simulate.json"
    line = [
        "simulate", *TEXTS, "--length", str(LENGTH), "--calibration", str(tmp_path / "calibration.json"),
        "--json", str(file),
    ]  # fmt: skip
    code, out, err = command()
    assert code == 65, err
    assert "text 1: a value left the range that the program was planned for; run `mpcnet calibrate" in err
    assert "error: a value left the range" in out
    document = json.loads(file.read_text())
    assert document["out_of_range"] == [True, True] and document["min_cosine"] is None and not document["wrong"]
    assert [sorted(row) for row in document["answers"]] == [["error", "out_of_range"]] * 2
    code, out, _ = command("--accept-out-of-range")
    document = json.loads(file.read_text())
    assert code == 0 and document["min_cosine"] < 0.99 and "(out of range)" in out
    assert [sorted(row) for row in document["answers"]] == [["cosine", "out_of_range"]] * 2


def test_command_line(tmp_path: Path, monkeypatch, capsys) -> None:
    """`mpcnet simulate --json FILE` as a process, one request of two sentences; `mpcnet plan` says the same.

    It starts others, which must not run what the folder that we are in has under their names: a clone has no kernels.
    """
    for package in ("launch", "models", "mpcnet", "protocols"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('not the installed package')")
    file = tmp_path / "simulate.json"
    line = [
        sys.executable,
        "-P",
        "-m",
        "mpcnet.launch.cli",
        "simulate",
        *TEXTS,
        "--length",
        str(LENGTH),
        "--json",
        str(file),
    ]
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr and "cosine" in ended.stdout
    document = json.loads(file.read_text())
    check(document)
    plan = planned(monkeypatch, capsys, "--length", str(LENGTH), "--batch", "2")
    rows = [[{key: row[key] for key in ("name", *COST_KEYS)} for row in by_name(doc)] for doc in (document, plan)]
    assert rows[0] == rows[1]
    assert {key: document[key] for key in COST_KEYS} == {key: plan[key] for key in COST_KEYS}
    assert document["offline_bytes"] == plan["offline_bytes"]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier as MPCFormer's students are: Quad, 2ReLU, and names for its labels; random weights."""
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(1)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["a", "good", "bad", "film", "book", "is", "this", "very", "not", "."],
    ]
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, id2label={0: "bad", 1: "good", 2: "neither"}, initializer_range=0.4,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_act": "quad", "softmax": "2relu"}))
    return folder


def test_labels_of_a_student(student: Path, monkeypatch, capsys) -> None:
    """It runs with its own softmax, and its client learns labels; the plan is measured."""
    texts = ["this film is good", "a bad book .", "not very good", "a"]
    options = Options(str(student), batch=2, answer="label", timeout_s=60)
    outcome = simulate(texts, options, console)
    document = outcome.document
    assert (document["softmax"], document["answer"], document["sentences"]) == ("2relu", "label", 4)
    assert document["labels"] == document["plain_labels"] == ["good", "good", "bad", "neither"]
    assert document["same_labels"] == 4
    assert torch.equal(outcome.private, outcome.plain)
    assert outcome.private.sum(1).tolist() == [1, 1, 1, 1]
    plan = planned(monkeypatch, capsys, "--model", str(student), "--length", "6", "--answer", "label")
    of = {row["name"]: row["rounds"] for row in plan["operations"]}
    assert (plan["softmax"], of["argmax"], of["layer0/activation"], of["layer0/attention/2relu"]) == ("2relu", 3, 1, 3)
    monkeypatch.setattr(command, "simulate_each", lambda *given, **more: outcome)
    monkeypatch.setattr(sys, "argv", ["mpcnet", "simulate", *texts, "--answer", "label"])
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().out
    assert "4 of 4 labels are the same" in shown and "beside transformers" in shown and document["labels"][0] in shown


def test_streams_cost_their_own_plans(student: Path) -> None:
    """Two of two texts each, side by side: bytes of four texts in the rounds of two."""
    texts = ["this film is good", "a bad book .", "not very good", "a"]
    options = Options(str(student), length=8, timeout_s=60)
    one, two = (simulate(texts, replace(options, streams=streams), console) for streams in (1, 2))
    assert [(found.document["streams"], found.document["wrong"]) for found in (one, two)] == [(1, []), (2, [])]
    for key in ("rounds", "sent_bytes", "received_bytes"):
        assert one.document[key] == two.document[key]


def test_embeddings_have_no_label() -> None:
    with pytest.raises(LocalInputError, match="answer: want logits of a model of embeddings, got 'label'"):
        simulate(TEXTS, Options(length=LENGTH, answer="label"), console)


def test_a_process_that_fails_ends_the_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own last line is the error, and nothing is left running."""
    started = []

    def start(made: Deployment, role: str, command: str, *arguments: str) -> None:
        code = "raise SystemExit('server1 failed  no luck')" if role == "server1" else "input()"
        with made.log(role).open("wb") as log:
            made.running[role] = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=log)
        started.append(made.running[role])

    monkeypatch.setattr(Deployment, "start", start)
    monkeypatch.setattr(Deployment, "_settle", lambda made: None)
    with pytest.raises(PartyFailed, match=r"^server1 \(exit code 1\): server1 failed no luck$"):
        simulate(TEXTS, Options(length=LENGTH), console)
    assert len(started) >= 3 and all(process.poll() is not None for process in started)
