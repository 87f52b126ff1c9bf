"""SecFormer's two-stage distillation: a student with other functions learns what its teacher computes.

Stage "layers": raw attention scores and hidden states, embeddings included, by mean squared error, summed over layers.
Stage "logits": cross-entropy with the teacher's logits at temperature 1; a regression learns labels by squared error.
The student starts from the teacher's weights. Unlike in the released code the teacher is in eval mode, without dropout,
and means go over tokens that are not padding, so that a batch's padding does not weigh.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from mpcnet.models.float_model.students import Outputs, run
from mpcnet.models.texts.tasks import Task
from mpcnet.models.training.loop import Batch, Loss


def losses(task: Task, teacher: nn.Module | None = None) -> Mapping[str, Loss]:
    """The losses of the stages by name: "labels" is ordinary fine-tuning, the others need a teacher."""

    def labels(model: nn.Module, batch: Batch) -> Tensor:
        return label_error(task, run(model, batch.inputs).logits, batch.labels)

    if teacher is None:
        return {"labels": labels}
    taught = teacher.eval()

    def layers(model: nn.Module, batch: Batch) -> Tensor:
        with torch.no_grad():
            want = run(taught, batch.inputs, inside=True)
        return inside_error(run(model, batch.inputs, inside=True), want, batch.inputs["attention_mask"])

    def logits(model: nn.Module, batch: Batch) -> Tensor:
        if not task.labels:
            return labels(model, batch)
        with torch.no_grad():
            want = run(taught, batch.inputs).logits.softmax(-1)
        return cross_entropy(run(model, batch.inputs).logits, want)

    return {"labels": labels, "layers": layers, "logits": logits}


def inside_error(mine: Outputs, theirs: Outputs, mask: Tensor) -> Tensor:
    """Mean squared errors over valid tokens (pairs of them, of scores), summed over layers."""
    rows = mask.bool()
    pairs = rows[:, None, :, None] & rows[:, None, None, :]
    scores = [_error(a, b, pairs) for a, b in zip(mine.scores, theirs.scores, strict=True)]
    hidden = [_error(a, b, rows[:, :, None]) for a, b in zip(mine.hidden, theirs.hidden, strict=True)]
    return torch.stack(scores + hidden).sum()


def _error(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    return ((a - b).square() * valid).sum() / valid.expand_as(a).sum()


def label_error(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, or a regression's squared error."""
    return cross_entropy(logits, labels.long()) if task.labels else mse_loss(logits[:, 0], labels)
