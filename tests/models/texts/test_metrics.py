"""GLUE's metrics against values computed by hand."""

import pytest
import torch

from mpcnet.errors import LocalInputError
from mpcnet.models.texts.metrics import score
from mpcnet.models.texts.tasks import TASKS


def chosen(answers):
    """Outputs of two labels whose largest is the answer."""
    return torch.tensor([[0.5, -0.5] if answer == 0 else [-3.0, 0.1] for answer in answers])


def test_two_labels():
    """TP 2, FP 1, FN 1, TN 2 of six."""
    answers, truth = [1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0]
    assert score(TASKS["sst-2"], chosen(answers), truth) == {"accuracy": pytest.approx(4 / 6)}
    assert score(TASKS["mrpc"], chosen(answers), truth) == {
        "f1": pytest.approx(2 * 2 / (2 * 2 + 1 + 1)),
        "accuracy": pytest.approx(4 / 6),
    }
    # (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN))
    assert score(TASKS["cola"], chosen(answers), truth)["matthews"] == pytest.approx((4 - 1) / 9)


def test_f1_and_matthews_of_unequal_classes():
    """TP 3, FP 2, FN 0, TN 1 of six."""
    answers, truth = [1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]
    assert score(TASKS["mrpc"], chosen(answers), truth)["f1"] == pytest.approx(6 / 8)
    assert score(TASKS["cola"], chosen(answers), truth)["matthews"] == pytest.approx(3 / (5 * 3 * 3 * 1) ** 0.5)


def test_one_answer_for_all():
    assert score(TASKS["cola"], chosen([1, 1, 1]), [1, 0, 1]) == {"matthews": 0.0, "accuracy": pytest.approx(2 / 3)}
    assert score(TASKS["mrpc"], chosen([0, 0]), [0, 0])["f1"] == 0.0
    assert score(TASKS["sts-b"], torch.full((3, 1), 0.1), [1.0, 2.0, 3.0]) == {"pearson": 0.0, "spearman": 0.0}


def test_regression():
    """Deviations (-2, 0, 2) and (-4, -1, 5): covariance 18, norms sqrt(8) and sqrt(42)."""
    got = score(TASKS["sts-b"], torch.tensor([[1.0], [3.0], [5.0]]), [0.0, 3.0, 9.0])
    assert got == {"pearson": pytest.approx(18 / (8 * 42) ** 0.5), "spearman": pytest.approx(1)}


def test_equal_scores_share_their_mean_rank():
    """Ranks (1, 2.5, 2.5, 4) and (2, 1, 3, 4): deviations give 4 of sqrt(4.5 * 5)."""
    got = score(TASKS["sts-b"], torch.tensor([[0.0], [2.0], [2.0], [7.0]]), [1.0, 0.0, 2.0, 9.0])
    assert got["spearman"] == pytest.approx((1.5 * 0.5 + 0 + 0 + 1.5 * 1.5) / (4.5 * 5) ** 0.5)


@pytest.mark.parametrize(
    ("task", "outputs", "labels", "message"),
    [
        ("sst-2", torch.zeros(2, 1), [0, 1], r"want \[2, 2\], got \[2, 1\]"),
        ("sst-2", torch.zeros(2, 2), [0, 1, 1], r"want \[3, 2\]"),
        ("sst-2", torch.zeros(0, 2), [], "want .some, 2."),
        ("sts-b", torch.tensor([[1.0], [torch.nan]]), [0.0, 1.0], "finite"),
    ],
)
def test_refuses(task, outputs, labels, message):
    with pytest.raises(LocalInputError, match=message):
        score(TASKS[task], outputs, labels)
