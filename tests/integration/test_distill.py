"""`mpcnet distill`: teacher, student and table through the command line, and what a user can get wrong."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest
from limits import LIMIT_S
from reviews import save_small_bert, save_small_mpnet, write_reviews
from typer.testing import CliRunner

from mpcnet.errors import LocalConfigError
from mpcnet.launch.cli import app
from mpcnet.launch.reporting.screen import console
from mpcnet.launch.simulate.localhost import Options, simulate
from mpcnet.models.checkpoints.loading import load_checkpoint

pytestmark = pytest.mark.slow


def distill(*arguments: object):
    return CliRunner().invoke(app, ["distill", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a pretrained model and a teacher that took three steps."""
    folder = write_reviews(tmp_path_factory.mktemp("made"))
    save_small_bert(folder / "bert")
    done = distill("teacher", *common(folder), "--model", folder / "bert", "--out", folder / "teacher", "--epochs", 1)
    assert done.exit_code == 0, done.output
    return folder


def common(folder: Path) -> tuple[object, ...]:
    return "--task", "sst-2", "--data", folder, "--max-steps", 3, "--batch", 8


def test_an_mpnet_and_its_student(made: Path) -> None:
    save_small_mpnet(made / "mpnet")
    teacher = made / "mpnet-teacher"
    done = distill("teacher", *common(made), "--model", made / "mpnet", "--out", teacher, "--epochs", 1)
    assert done.exit_code == 0, done.output
    student = made / "mpnet-student"
    done = distill("student", *common(made), "--teacher", teacher, "--out", student, "--epochs", 1)
    assert done.exit_code == 0, done.output
    checkpoint = load_checkpoint(student)
    assert (checkpoint.softmax, checkpoint.shape.relative_buckets, checkpoint.labels) == (
        "2quad",
        32,
        ("negative", "positive"),
    )
    found = simulate(["a fine film", "its plot was dull"], Options(str(student), timeout_s=60), console).document
    assert (found["wrong"], found["compared_with"]) == ([], "transformers")


def test_a_student_of_a_teacher(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    student = (
        "student",
        *common(made),
        "--teacher",
        made / "teacher",
        "--out",
        made / "student",
        "--half",
        "--limit",
        50,
    )
    done = distill(*student, "--activation", "quad", "--softmax", "2relu", "--epochs", 2, "--logit-epochs", 1)
    assert done.exit_code == 0, done.output
    found = json.loads((made / "student" / "results.json").read_text())
    assert found["examples"] == {"train": 50, "held_out": 24, "dev": 60}
    assert [(row["stage"], row["steps"]) for row in found["epochs"]] == [("layers", 3), ("logits", 3)]
    assert 0 <= found["dev"]["accuracy"] <= 1
    config = json.loads((made / "student" / "config.json").read_text())
    assert (config["softmax"], config["hidden_act"], config["dtype"]) == ("2relu", "quad", "float16")
    assert not (made / "student" / "state.pt").exists()
    table = distill("table", made / "teacher", made / "student")
    rows = {line.split("│")[1].strip(): line for line in table.output.splitlines() if line.startswith("│")}
    assert set(rows) == {"teacher", "student"}
    assert "2relu" in rows["student"] and f"{found['dev']['accuracy']:.4f}" in rows["student"]
    again = distill(*student, "--activation", "quad", "--softmax", "2relu", "--epochs", 2, "--logit-epochs", 1)
    assert again.exit_code == 0 and json.loads((made / "student" / "results.json").read_text()) == found


def test_put_in_without_training_has_the_teachers_weights(made: Path) -> None:
    none = "--epochs", 0, "--logit-epochs", 0
    done = distill("student", *common(made), "--teacher", made / "teacher", "--out", made / "putin", *none)
    assert done.exit_code == 0, done.output
    assert load_checkpoint(made / "putin").sha256 == load_checkpoint(made / "teacher").sha256
    assert json.loads((made / "putin" / "config.json").read_text())["softmax"] == "2quad"


def test_several_sources_give_each_text_once_and_none_of_dev(made: Path, tmp_path: Path) -> None:
    rows = (made / "SST-2" / "train.tsv").read_text().splitlines()
    dev = (made / "SST-2" / "dev.tsv").read_text().splitlines()
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2" / "train.tsv").write_text("\n".join([*rows, dev[1], "a new film\t1"]) + "\n")
    more = "--data", tmp_path, "--out", made / "more", "--model", made / "bert"
    assert distill("teacher", *common(made), *more).exit_code == 0
    first, both = (json.loads((made / name / "results.json").read_text())["examples"] for name in ("teacher", "more"))
    assert sum(both.values()) == sum(first.values()) + 1


def test_a_folder_that_another_process_trains_in(made: Path) -> None:
    options = (made / "teacher" / "options.json").read_text()
    (made / "busy").mkdir()
    (made / "busy" / "options.json").write_text(options)
    arguments = ("teacher", *common(made), "--model", made / "bert", "--out", made / "busy", "--epochs", 1)
    with (made / "busy" / "options.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = distill(*arguments)
        assert isinstance(done.exception, LocalConfigError)
        assert "busy: want a folder that nobody trains in" in str(done.exception)
    assert distill(*arguments).exit_code == 0


def test_help() -> None:
    assert all(word in distill("--help").output for word in ("teacher", "student", "table"))
    assert all(word in distill("student", "--help").output for word in ("--softmax", "--labels-only", "--max-steps"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "imdb"), "task: want one of cola"),
        (("--data", "nowhere"), r"sst-2: want nowhere/SST-2/dev\.tsv, got no such file"),
        (("--model", "SST-2"), "SST-2: want a directory or hub name with a tokenizer"),
        (("--layers", 3), "want 1 to 2 layers, got 3"),
        (("--out", "SST-2"), "want a new or empty folder for --out"),
        (("--out", "teacher"), "other options: .*; name another --out"),
    ],
)
def test_what_a_user_can_get_wrong(made: Path, monkeypatch, arguments: tuple[str, str], message: str) -> None:
    monkeypatch.chdir(made)
    right = {"--task": "sst-2", "--data": ".", "--model": "bert", "--out": "refused", "--max-steps": "1"}
    given = right | {arguments[0]: arguments[1]}
    done = distill("teacher", *(word for pair in given.items() for word in pair))
    assert done.exit_code == 1 and isinstance(done.exception, LocalConfigError)
    with pytest.raises(LocalConfigError, match=message):
        raise done.exception


def test_a_teacher_of_another_task(made: Path, tmp_path: Path) -> None:
    (tmp_path / "RTE").mkdir()
    for split in ("train", "dev"):
        text = "sentence1\tsentence2\tlabel\n" + f"the {split}\ta plot\tentailment\n" * 3
        (tmp_path / "RTE" / f"{split}.tsv").write_text(text)
    wrong = "student", "--task", "rte", "--data", tmp_path, "--out", tmp_path / "out"
    done = distill(*wrong, "--teacher", made / "teacher")
    assert "want a teacher of rte, got one with the labels negative, positive" in str(done.exception)


def test_only_texts_of_dev(made: Path, tmp_path: Path) -> None:
    (tmp_path / "SST-2").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "SST-2" / f"{split}.tsv").write_text("sentence\tlabel\na film\t1\n")
    done = distill(
        "teacher", "--task", "sst-2", "--data", tmp_path, "--model", made / "bert", "--out", tmp_path / "out"
    )
    assert "want examples that are not in dev, got 0" in str(done.exception)


def test_without_accelerate(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    done = distill("teacher", *common(made), "--model", made / "bert", "--out", tmp_path / "out")
    assert "pip install 'mpcnet[distill]'" in str(done.exception)


def test_two_processes_share_the_steps(made: Path, tmp_path: Path) -> None:
    """On CPUs; one of them tells, and writes."""
    launcher = "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mpcnet.launch.cli"
    teacher = "distill", "teacher", "--task", "sst-2", "--data", made, "--batch", "16", "--epochs", "1"
    line = [sys.executable, *launcher, *teacher, "--model", made / "bert", "--out", tmp_path / "out"]
    ended = subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("results:") == 1
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (found["processes"], [row["steps"] for row in found["epochs"]]) == (2, [7])  # 216 examples, 2 x 16 a step
    assert load_checkpoint(tmp_path / "out").shape.labels == 2
