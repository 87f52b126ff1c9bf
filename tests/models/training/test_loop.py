"""Batches, schedules and the split of a training run; and that a run which was stopped goes on as if it had not been."""

import random

import pytest
import torch
from accelerate import Accelerator
from reviews import save_small_bert, save_small_mpnet, write_reviews

from mpcnet.errors import LocalConfigError
from mpcnet.models.float_model.students import load_student
from mpcnet.models.texts.tasks import TASKS, Examples, read
from mpcnet.models.training.distillation import losses
from mpcnet.models.training.loop import Rows, Run, Stage, Trainer, collate, epoch_order, pick, predict, split, tokenise

TASK = TASKS["sst-2"]
STAGES = (
    Stage("layers", epochs=2, lr=2e-3, select=False, dropout=0.0),
    Stage("logits", epochs=2, lr=1e-3, warmup=0.1),
)


def rows_of(lengths):
    ids = [torch.arange(1, n + 1) for n in lengths]
    return Rows(ids, [torch.zeros_like(x) for x in ids], torch.arange(len(ids), dtype=torch.float32), padding=0)


def test_constant_rate_and_warmup():
    assert {Stage("layers", 1, 0.5).rate(step, 10) for step in range(10)} == {0.5}
    rates = [Stage("labels", 1, 1.0, warmup=0.2).rate(step, 10) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert Stage("labels", 1, 1.0, warmup=0.1).rate(0, 1) == 1.0


def test_an_epoch_has_every_row_once_with_neighbours_of_its_length():
    rows = rows_of([3 + (7 * i) % 40 for i in range(103)])
    order = epoch_order(rows, 4, 1, random.Random(1))
    assert sorted(i for batch in order for i in batch) == list(range(103))
    padded = sum(len(batch) * max(len(rows.ids[i]) for i in batch) for batch in order)
    assert padded < 1.1 * sum(len(x) for x in rows.ids)
    assert order != epoch_order(rows, 4, 1, random.Random(2))
    assert order == epoch_order(rows, 4, 1, random.Random(1))


def test_processes_get_as_many_batches_each():
    order = epoch_order(rows_of([5] * 10), 2, 3, random.Random(1))
    assert len(order) == 6 and order[5] == order[0]


def test_collate():
    batch = collate(rows_of([2, 4, 1]), [2, 1])
    assert batch.inputs["input_ids"].tolist() == [[1, 0, 0, 0], [1, 2, 3, 4]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 0, 0, 0], [1, 1, 1, 1]]
    assert batch.labels.tolist() == [2.0, 1.0]


def test_split_parts_have_nothing_in_common():
    examples = Examples([f"text {i}" for i in range(95)], list(range(95)))
    rest, held = split(examples, seed=3)
    assert (len(rest), len(held)) == (85, 10)
    assert sorted(rest.labels + held.labels) == list(range(95))
    assert [f"text {i}" for i in held.labels] == held.texts
    assert split(examples, seed=3)[1].texts == held.texts != split(examples, seed=4)[1].texts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the model is, its rows to train on, and those held out."""
    folder = tmp_path_factory.mktemp("made")
    source = save_small_bert(folder / "bert")
    examples = pick(read(TASK, str(write_reviews(folder)), "train"), range(64))
    return source, *(tokenise(source, part, 16) for part in split(examples, 1))


def test_tokenise_cuts_the_longer_text_of_a_pair(made):
    rows = tokenise(made[0], Examples([("the film", "a plot with a story and its music")], [1.0]), 8)
    assert [len(rows.ids[0]), rows.types[0].tolist()] == [8, [0, 0, 0, 0, 1, 1, 1, 1]]


def test_a_model_without_types_gets_none(tmp_path):
    source = save_small_mpnet(tmp_path)
    rows = tokenise(source, Examples([("the film", "a plot"), ("its music", "dull")], [1.0, 0.0]), 16)
    batch = collate(rows, [0, 1])
    assert sorted(batch.inputs) == ["attention_mask", "input_ids"]
    assert predict(load_student(source, TASK), rows).shape == (2, 2)


def test_predict_keeps_the_order(made):
    source, rows, _ = made
    torch.manual_seed(1)
    model = load_student(source, TASK).eval()
    alone = torch.cat([model(**collate(rows, [i]).inputs).logits for i in range(len(rows))])
    assert (predict(model, rows) - alone).abs().max() < 1e-5


def trained(made, state, show=lambda now: None, stages=STAGES):
    source, rows, held_out = made
    torch.manual_seed(1)
    teacher, student = load_student(source, TASK), load_student(source, TASK, "2quad", "quad")
    trainer = Trainer(Accelerator(cpu=True), student, Run(TASK, batch=8, save_every=3), state, show)
    return trainer.train(stages, losses(TASK, teacher), rows, held_out), student.state_dict()


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """A run that nothing stopped: its history, and its weights."""
    return trained(made, tmp_path_factory.mktemp("whole") / "state.pt")


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("when", [("layers", 5), ("layers", 14), ("logits", 10)])
def test_a_stopped_run_goes_on_bit_for_bit(made, whole, tmp_path, when):
    """Stopped within an epoch between two saved states, at the end of a stage, and within the last epoch."""

    def stop(now):
        if (now.stage, now.step) == when:
            raise Stopped

    history, weights = whole
    with pytest.raises(Stopped):
        trained(made, tmp_path / "parts.pt", stop)
    again, others = trained(made, tmp_path / "parts.pt")
    assert again == history and len(history) == 4
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    seen = []
    finished, _ = trained(made, tmp_path / "parts.pt", seen.append)
    assert finished == history and seen == []


def test_every_epoch_is_told_and_the_best_is_kept(made, tmp_path):
    told = []
    history, weights = trained(made, tmp_path / "s.pt", lambda now: told.append(now) if now.scores else None)
    assert [(now.stage, now.epoch) for now in told] == [("layers", 1), ("layers", 2), ("logits", 1), ("logits", 2)]
    assert [row["loss"] for row in history] == [now.loss for now in told]
    model = load_student(made[0], TASK, "2quad", "quad")
    model.load_state_dict(weights)
    right = (predict(model, made[2]).argmax(1) == made[2].labels).double().mean().item()
    assert right == pytest.approx(max(row["held_out"]["accuracy"] for row in history[2:]))


def test_steps_limit_ends_each_stage(made, tmp_path):
    source, rows, held_out = made
    model = load_student(source, TASK)
    trainer = Trainer(
        Accelerator(cpu=True), model, Run(TASK, batch=8, max_steps=3), tmp_path / "s.pt", lambda now: None
    )
    stages = (Stage("labels", 5, 1e-3), Stage("labels", 5, 1e-3))
    assert [row["steps"] for row in trainer.train(stages, losses(TASK), rows, held_out)] == [3, 3]


def test_damaged_state(made, tmp_path):
    (tmp_path / "s.pt").write_bytes(b"no state")
    with pytest.raises(LocalConfigError, match=r"s\.pt: want the state of a run, got .*; remove it"):
        trained(made, tmp_path / "s.pt")
