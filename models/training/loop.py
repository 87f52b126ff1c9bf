"""A training run in stages: batches by length, every step seeded by its number, one file from which it goes on.

Nothing random outlives a step: an epoch's order and a step's dropout come from (seed, stage, epoch or step, process): a
run that was stopped goes on bit for bit as if it had not been (on a CPU; a GPU's own sums may differ).
With several processes (accelerate launch) each takes its share of an epoch's batches; gradients are averaged. All must
see the output folder, which the first process writes.
"""

from __future__ import annotations

import math
import os
import pickle
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mpcnet.errors import LocalConfigError
from mpcnet.models.texts.metrics import score
from mpcnet.models.texts.tasks import Examples, Task
from mpcnet.models.texts.tokens import load_tokenizer, parts

if TYPE_CHECKING:
    from accelerate import Accelerator

Loss: TypeAlias = "Callable[[nn.Module, Batch], Tensor]"
Show: TypeAlias = Callable[["Progress"], None]
POOL = 50  # batches whose rows are sorted by length together: little padding, and still a new mixture every epoch
EVAL_BATCH = 64
CLIP, DECAY = 1.0, 0.01


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokenised examples; no types for a model that has none."""

    ids: list[Tensor] = field(repr=False)
    types: list[Tensor] = field(repr=False)
    labels: Tensor = field(repr=False)
    padding: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """ids, types and mask as a model takes them, [B, n]; labels [B]."""

    inputs: dict[str, Tensor] = field(repr=False)
    labels: Tensor = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stage:
    """One loss, by its name, for so many epochs. With warmup the rate rises for that part of the steps, then falls."""

    name: str
    epochs: int
    lr: float
    warmup: float = 0.0
    dropout: float | None = None  # None: what config.json says
    select: bool = True  # keep the epoch that is best on the examples held out

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step."""
        if not self.warmup:
            return self.lr
        rising = max(1, round(self.warmup * steps))
        return self.lr * min((step + 1) / rising, (steps - step) / max(1, steps - rising))


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run tells after each step; `scores` and the mean loss after an epoch."""

    stage: str
    step: int
    steps: int
    epoch: int
    loss: float | None = None
    scores: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """How to train, besides the stages."""

    task: Task
    batch: int = 32  # of each process
    seed: int = 1
    max_steps: int = 0  # of each stage; 0: no limit
    save_every: int = 500


def tokenise(tokenizer_dir: str | Path, examples: Examples, length: int) -> Rows:
    """Rows of at most `length` tokens; the longer text of a pair is cut first."""
    tokenizer = load_tokenizer(tokenizer_dir)
    columns = zip(*(parts(text) for text in examples.texts), strict=True)
    found = tokenizer(*(list(column) for column in columns), truncation=True, max_length=length)
    ids, types = ([torch.tensor(row) for row in found.get(key, [])] for key in ("input_ids", "token_type_ids"))
    return Rows(ids, types, torch.tensor(examples.labels), tokenizer.pad_token_id)


def collate(rows: Rows, chosen: Sequence[int]) -> Batch:
    """Padded to the longest of the batch."""
    ids = _padded(rows.ids, chosen, rows.padding)
    counts = torch.tensor([len(rows.ids[i]) for i in chosen])
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < counts[:, None]).long()}
    if rows.types:
        inputs["token_type_ids"] = _padded(rows.types, chosen, 0)
    return Batch(inputs, rows.labels[list(chosen)])


def _padded(column: Sequence[Tensor], chosen: Sequence[int], padding: int) -> Tensor:
    return pad_sequence([column[i] for i in chosen], batch_first=True, padding_value=padding)


def epoch_order(rows: Rows, batch: int, processes: int, generator: random.Random) -> list[list[int]]:
    """Batches of rows of similar length in a random order, as many for each process: it takes every processes-th."""
    order = list(range(len(rows)))
    generator.shuffle(order)
    pool = POOL * batch
    batches = []
    for start in range(0, len(order), pool):
        near = sorted(order[start : start + pool], key=lambda i: len(rows.ids[i]))
        batches += [near[i : i + batch] for i in range(0, len(near), batch)]
    generator.shuffle(batches)
    return batches + batches[: -len(batches) % processes]


def predict(model: nn.Module, rows: Rows, device: torch.device | str = "cpu") -> Tensor:
    """Logits of all rows in their order, float32 on the CPU; the model is in eval mode meanwhile, and stays in it."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows.ids[i]))
    logits = []
    with torch.inference_mode():
        for start in range(0, len(order), EVAL_BATCH):
            batch = to(collate(rows, order[start : start + EVAL_BATCH]), device)
            logits.append(model(**batch.inputs).logits.float().cpu())
    return torch.cat(logits)[torch.tensor(order).argsort()]


def to(batch: Batch, device: torch.device | str) -> Batch:
    return Batch({name: x.to(device) for name, x in batch.inputs.items()}, batch.labels.to(device))


class Trainer:
    """A run of stages over one model, whose weights it changes in place.

    `state` is the file to go on from, written every `save_every` steps and after every epoch, and replaced atomically.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, run: Run, state: Path, show: Show) -> None:
        self._accelerator, self._bare, self._run, self._file, self._show = accelerator, model, run, state, show
        plain = [p for p in model.parameters() if p.ndim < 2]  # biases and norms do not decay
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, weight_decay=DECAY, fused=True)
        self._model, self._optimizer = accelerator.prepare(model, optimizer)
        self._stage = self._step = 0
        self._sum, self._count = 0.0, 0  # losses of this epoch
        self._best: tuple[float, dict[str, Tensor]] | None = None
        self.history: list[dict[str, Any]] = []

    def train(
        self, stages: Sequence[Stage], losses: Mapping[str, Loss], rows: Rows, held_out: Rows
    ) -> list[dict[str, Any]]:
        """Run all stages, or what is left of them. Returns a row for each epoch: its mean loss, and its scores.

        :raises LocalConfigError: the state is damaged.
        """
        self._restore()
        while self._stage < len(stages):
            stage = stages[self._stage]
            self._run_stage(stage, losses[stage.name], rows, held_out)
            if self._best is not None:
                self._bare.load_state_dict(self._best[1])
            self._stage, self._step, self._best = self._stage + 1, 0, None
            self._optimizer.state.clear()
            self._save()
        return self.history

    def _run_stage(self, stage: Stage, loss: Loss, rows: Rows, held_out: Rows) -> None:
        run, world = self._run, self._accelerator.num_processes
        each = math.ceil(len(rows) / run.batch / world)  # steps of an epoch
        steps = min(stage.epochs * each, run.max_steps or stage.epochs * each)
        usual = _set_dropout(self._bare, stage.dropout)
        order: list[list[int]] = []
        for step in range(self._step, steps):
            epoch, at = divmod(step, each)
            if not order or at == 0:
                generator = random.Random(f"{run.seed} {self._stage} {epoch}")  # noqa: S311 - an order, not a secret
                order = epoch_order(rows, run.batch, world, generator)
            mine = order[at * world + self._accelerator.process_index]
            self._sum += self._one_step(loss, step, stage.rate(step, steps), collate(rows, mine))
            self._count, self._step = self._count + 1, step + 1
            ends = at == each - 1 or step == steps - 1
            self._show(Progress(stage.name, step + 1, steps, epoch + 1))
            if ends:
                self._end_epoch(stage, epoch, steps, held_out)
            if ends or (step + 1) % run.save_every == 0:
                self._save()
        for module, rate in usual.items():
            module.p = rate

    def _one_step(self, loss: Loss, step: int, rate: float, batch: Batch) -> float:
        accelerator = self._accelerator
        torch.manual_seed(hash((self._run.seed, self._stage, step, accelerator.process_index)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._model.train()
        with accelerator.autocast():
            error = loss(self._model, to(batch, accelerator.device))
        accelerator.backward(error)
        accelerator.clip_grad_norm_(self._model.parameters(), CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return error.item()

    def _end_epoch(self, stage: Stage, epoch: int, steps: int, held_out: Rows) -> None:
        """Every process scores the whole of the held-out rows, and so all choose the same epoch."""
        task = self._run.task
        scores = score(task, predict(self._bare, held_out, self._accelerator.device), held_out.labels)
        mean, self._sum, self._count = self._sum / self._count, 0.0, 0
        self.history.append(
            {"stage": stage.name, "epoch": epoch + 1, "steps": self._step, "loss": mean, "held_out": scores}
        )
        if stage.select and (self._best is None or scores[task.headline] > self._best[0]):
            weights = {name: value.detach().cpu().clone() for name, value in self._bare.state_dict().items()}
            self._best = (scores[task.headline], weights)
        self._show(Progress(stage.name, self._step, steps, epoch + 1, mean, scores))

    def _save(self) -> None:
        self._accelerator.wait_for_everyone()
        if not self._accelerator.is_main_process:
            return
        new = self._file.with_suffix(".new")
        torch.save(
            {
                "position": (self._stage, self._step, self._sum, self._count),
                "history": self.history,
                "best": self._best,
                "model": self._bare.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            },
            new,
        )
        os.replace(new, self._file)

    def _restore(self) -> None:
        if not self._file.exists():
            return
        try:
            saved = torch.load(self._file, map_location="cpu", weights_only=True)
            self._bare.load_state_dict(saved["model"])
            self._optimizer.load_state_dict(saved["optimizer"])
            self._stage, self._step, self._sum, self._count = saved["position"]
            self.history, self._best = saved["history"], saved["best"]
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise LocalConfigError(
                f"{self._file}: want the state of a run, got {type(error).__name__}; remove it"
            ) from error


def _set_dropout(model: nn.Module, rate: float | None) -> dict[nn.Dropout, float]:
    """Give all dropouts one rate; returns what they had."""
    usual = {module: module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    if rate is not None:
        for module in usual:
            module.p = rate
    return usual


def split(examples: Examples, seed: int, share: float = 0.1, most: int = 1000) -> tuple[Examples, Examples]:
    """Examples to train on, and those held out to choose an epoch by: a tenth, at most 1000."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # noqa: S311 - an order, not a secret
    held = min(most, math.ceil(share * len(order)))
    return pick(examples, sorted(order[held:])), pick(examples, sorted(order[:held]))


def pick(examples: Examples, chosen: Sequence[int]) -> Examples:
    return Examples([examples.texts[i] for i in chosen], [examples.labels[i] for i in chosen])
