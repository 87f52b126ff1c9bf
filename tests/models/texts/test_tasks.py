"""GLUE's files as they are: no header, quotes that mean nothing, labels by name, damage that is named."""

import sys
from types import SimpleNamespace

import pytest

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.texts.tasks import TASKS, read, task_of

FILES = {  # task: file, text, the examples in it
    "cola": ("CoLA", 'gj04\t1\t\tFred "watered" them.\ngj04\t0\t*\tThey\x85drank the.\n', ['Fred "watered" them.', "They\x85drank the."], [1, 0]),
    "mrpc": (
        "MRPC",
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t10\t11\t" Open quote .\tIt \'s "one .\r\n0\t12\t13\tA\tB\r\n',
        [('" Open quote .', 'It \'s "one .'), ("A", "B")],
        [1, 0],
    ),
    "qnli": ("QNLI", "index\tquestion\tsentence\tlabel\n0\tWho?\tHe.\tentailment\n1\tWhy?\tSo.\tnot_entailment\n", [("Who?", "He."), ("Why?", "So.")], [0, 1]),
    "rte": ("RTE", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n1\tC\tD\tentailment\n", [("A", "B"), ("C", "D")], [1, 0]),
    "sst-2": ("SST-2", "sentence\tlabel\na `` fine '' film \t1\nno film \t0\n", ["a `` fine '' film ", "no film "], [1, 0]),
    "sts-b": (
        "STS-B",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tg\tf\t2012\t1\tn\tn\tA man.\tA dog.\t1.250\n",
        [("A man.", "A dog.")],
        [1.25],
    ),
}  # fmt: skip


def write(folder, task, text, split="train"):
    (folder / TASKS[task].folder).mkdir(exist_ok=True)
    (folder / TASKS[task].folder / f"{split}.tsv").write_text(text, "utf-8", newline="")


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("split", ["train", "dev"])
def test_reads(tmp_path, task, split):
    folder, text, texts, labels = FILES[task]
    write(tmp_path, task, text, split)
    assert TASKS[task].folder == folder
    got = read(TASKS[task], str(tmp_path), split)
    assert (got.texts, got.labels) == (texts, labels)
    assert "Fred" not in repr(got)


@pytest.mark.parametrize(
    ("task", "text", "error", "message"),
    [
        ("sst-2", "sentence\tlabel\nfine\t1\nno\n", LocalInputError, "row 2: want 2 columns, got 1"),
        ("sst-2", "sentence\tlabel\nfine\t2\n", LocalInputError, "row 1: want label negative or positive, got '2'"),
        ("sst-2", "sentence\tlabel\nfine\t0.5\n", LocalInputError, "row 1"),
        ("sst-2", "sentence\tlabel\n", LocalInputError, "want examples, got none"),
        ("sst-2", "text\tlabel\nfine\t1\n", LocalConfigError, "want columns sentence, got text, label"),
        ("sst-2", "", LocalConfigError, "no header line"),
        ("sts-b", "sentence1\tsentence2\tscore\na\tb\tnan\n", LocalInputError, "want label a score, got 'nan'"),
        ("rte", "sentence1\tsentence2\tlabel\na\tb\tneutral\n", LocalInputError, "entailment or not_entailment"),
    ],
)
def test_refuses(tmp_path, task, text, error, message):
    write(tmp_path, task, text)
    with pytest.raises(error, match=message):
        read(TASKS[task], str(tmp_path), "train")


def test_no_file_and_no_task(tmp_path):
    with pytest.raises(LocalConfigError, match=r"rte: want .*RTE/dev.tsv, got no such file"):
        read(TASKS["rte"], str(tmp_path), "dev")
    with pytest.raises(LocalConfigError, match=r"task: want one of cola, .*, got imdb"):
        task_of("imdb")


def test_datasets_library(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LocalConfigError, match="pip install datasets"):
        read(TASKS["mrpc"], "glue", "dev")
    asked = []

    def load_dataset(*names, split):
        asked.append((*names, split))
        return [{"sentence1": "A", "sentence2": "B", "label": 1, "idx": 7}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    got = read(TASKS["mrpc"], "glue", "dev")
    assert asked == [("nyu-mll/glue", "mrpc", "validation")]
    assert (got.texts, got.labels) == ([("A", "B")], [1])
