"""What distillation compares, by hand; and that its losses fall on a small task."""

import pytest
import torch
from accelerate import Accelerator
from reviews import save_small_bert, write_reviews
from torch import tensor

from mpcnet.models.float_model.students import Outputs, load_student, run
from mpcnet.models.texts.metrics import score
from mpcnet.models.texts.tasks import TASKS, read
from mpcnet.models.training.distillation import inside_error, losses
from mpcnet.models.training.loop import Batch, Run, Stage, Trainer, collate, predict, split, tokenise

TASK = TASKS["sst-2"]


def test_inside_error_is_a_sum_of_means_over_valid_tokens():
    """Two tokens of three are valid: four pairs of scores (one head), two hidden rows of one value."""
    mask, zero = tensor([[1, 1, 0]]), torch.zeros(1, 1, 3, 3)
    scores = tensor([[[[1.0, 2.0, 9.0], [0.0, 1.0, 9.0], [9.0, 9.0, 9.0]]]])
    hidden, other = tensor([[[3.0], [1.0], [7.0]]]), torch.zeros(1, 3, 1)
    got = inside_error(
        Outputs(zero, (scores, zero), (hidden, hidden)), Outputs(zero, (zero, zero), (other, hidden)), mask
    )
    assert got.item() == pytest.approx((1 + 4 + 0 + 1) / 4 + (9 + 1) / 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    source = save_small_bert(folder / "bert")
    examples = read(TASK, str(write_reviews(folder)), "train")
    return source, *(tokenise(source, part, 16) for part in split(examples, 1))


def test_losses_by_their_formulas(made):
    source, rows, _ = made
    torch.manual_seed(1)
    teacher, student = load_student(source, TASK), load_student(source, TASK, "2quad").eval()
    batch, found = collate(rows, [0, 5, 9]), losses(TASK, teacher)
    mine, theirs = run(student, batch.inputs).logits, run(teacher.eval(), batch.inputs).logits
    want = -(theirs.softmax(-1) * mine.log_softmax(-1)).sum(-1).mean()
    assert found["logits"](student, batch).item() == pytest.approx(want.item(), abs=1e-6)
    labels = -mine.log_softmax(-1)[range(3), batch.labels.long()].mean()
    assert found["labels"](student, batch).item() == pytest.approx(labels.item(), abs=1e-6)
    assert found["layers"](teacher, batch).item() == 0 < found["layers"](student, batch).item()
    assert set(losses(TASK)) == {"labels"}


def test_teacher_has_no_dropout_and_gets_no_gradient(made):
    source, rows, _ = made
    teacher, student = load_student(source, TASK).train(), load_student(source, TASK, "2quad").eval()
    loss = losses(TASK, teacher)["layers"]
    first, second = (loss(student, collate(rows, [1, 2])) for _ in range(2))
    assert first.item() == second.item()
    first.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert student.bert.encoder.layer[0].attention.self.query.weight.grad.abs().max() > 0


def test_regression_learns_the_scores(made):
    """Its second stage is the squared error to the labels, whatever the teacher says."""
    source, rows, _ = made
    task = TASKS["sts-b"]
    teacher, student = load_student(source, task), load_student(source, task, "2quad").eval()
    batch = Batch(collate(rows, [0, 1]).inputs, tensor([2.5, 4.0]))
    want = (run(student, batch.inputs).logits[:, 0] - batch.labels).square().mean().item()
    assert losses(task, teacher)["logits"](student, batch).item() == pytest.approx(want)


@pytest.mark.slow
def test_a_teacher_learns_and_a_student_learns_from_it(made, tmp_path):
    source, rows, held_out = made

    def train(model, state, stages, found):
        trainer = Trainer(Accelerator(cpu=True), model, Run(TASK, batch=16), tmp_path / state, lambda now: None)
        return trainer.train(stages, found, rows, held_out)

    torch.manual_seed(1)
    teacher = load_student(source, TASK)
    history = train(teacher, "t.pt", (Stage("labels", 8, 3e-3, 0.1),), losses(TASK))
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    right = score(TASK, predict(teacher, held_out), held_out.labels)["accuracy"]
    assert right > 0.9
    student = load_student(source, TASK, "2quad", "quad")
    student.load_state_dict(teacher.state_dict())
    before = (predict(student, held_out) - predict(teacher, held_out)).abs().mean()
    stages = (Stage("layers", 6, 2e-3, dropout=0.0, select=False), Stage("logits", 3, 1e-3, 0.1, dropout=0.0))
    history = train(student, "s.pt", stages, losses(TASK, teacher))
    assert history[5]["loss"] < 0.5 * history[0]["loss"]
    assert (predict(student, held_out) - predict(teacher, held_out)).abs().mean() < 0.5 * before
    assert score(TASK, predict(student, held_out), held_out.labels)["accuracy"] >= right - 0.05
