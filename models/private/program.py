"""The public program: what all parties must agree on, as a file, and the plans of its runs.

`program.json` holds the architecture, the number formats, the suite, how clients make tokens of texts, which answers
they may have, and a commitment to the weights that tells nothing of them (:mod:`mpcnet.models.private.commitment`).
Its digest is exchanged in every handshake; a difference ends both sides, naming the settings that differ. No release of
mpcnet is named in it: :data:`mpcnet.transport.handshake.FORMAT_VERSION` says which releases it is for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import torch

from mpcnet import checked_json
from mpcnet.arrays import ring
from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.families.config import AnswerKind, Config, Embedding
from mpcnet.models.families.loaded import Model, load
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.known_answer import known_answer
from mpcnet.models.private.parameters import parameters
from mpcnet.models.shape import BertShape
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.protocols.suites import SUITES
from mpcnet.randomness.meter import MeterSource, Plan, measure
from mpcnet.transport.handshake import COMPUTES, FORMAT_VERSION, Program

FORMAT = "mpcnet program"
AGAIN = "make it again: mpcnet init"
KEPT_PLANS = 256  # sizes whose plans are kept: clients choose sizes, and a plan takes up to 200 KB
LENGTH = 8  # tokens of the request whose plan is agreed upon


def to_dict(config: Config) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "suite": config.suite.name,
        "embedding": config.embedding,
        "shape": config.shape.to_dict(),
        "formats": config.formats.to_dict(),
        "preprocessing": None if config.preprocessing is None else config.preprocessing.to_dict(),
        "labels": list(config.labels),
        "answers": list(config.answers),
        "weights": config.weights or None,
    }


def save(config: Config, path: Path) -> None:
    path.write_text(json.dumps(to_dict(config), indent=1, sort_keys=True) + "\n", "utf-8")


def read(path: Path) -> Config:
    """:raises LocalConfigError: the file is missing, malformed, or of another format version."""
    try:
        values = checked_json.mapping(path.read_bytes())
        kind = (values.get("format"), values.get("version"))
        if kind != (FORMAT, FORMAT_VERSION):
            raise LocalConfigError(
                f"program {path}: want {FORMAT!r} of format version {FORMAT_VERSION}, got {kind[0]!r} of {kind[1]!r}; "
                f"install the release of mpcnet that wrote it, or {AGAIN}"
            )
        if values["embedding"] not in get_args(Embedding):
            raise ValueError(f"embedding {values['embedding']!r}")
        shape, formats = BertShape.from_dict(values["shape"]), Formats.from_dict(values["formats"])
        texts = values["preprocessing"]
        preprocessing = None if texts is None else Preprocessing.from_dict(texts)
        labels = tuple(values["labels"])
        if len(labels) not in (0, shape.labels) or not all(isinstance(name, str) for name in labels):
            raise ValueError(f"labels: want {shape.labels} names or none, got {labels!r}")
        kinds = get_args(AnswerKind)
        given = values["answers"]
        if not isinstance(given, list) or given != [kind for kind in kinds if kind in given]:
            raise ValueError(f"answers: want some of {', '.join(kinds)} in this order, got {given!r}")
        suite = SUITES[values["suite"]]
        config = Config(
            shape, formats, suite, values["embedding"], preprocessing, labels, tuple(given), _weights(values)
        )
        if not answers(config):
            raise ValueError(f"answers: want one that the model has, got {', '.join(given) or 'none'}")
        return config
    except (OSError, *MALFORMED) as error:
        raise LocalConfigError(f"program {path}: want a program file, got {error!r}; {AGAIN}") from error


def _weights(values: Mapping[str, Any]) -> str:
    """:raises ValueError: it is no commitment, nor null."""
    found = values["weights"]
    if found is not None and not (isinstance(found, str) and re.fullmatch("[0-9a-f]{64}", found)):
        raise ValueError(f"weights: want 64 hex digits or null, got {found!r}")
    return found or ""


def digest(config: Config) -> bytes:
    """SHA-256 of the program as its file says it."""
    return hashlib.sha256(_text(config).encode()).digest()


def _text(config: Config) -> str:
    return json.dumps(to_dict(config), sort_keys=True)


def agreement(config: Config) -> Program:
    """The digest of the program, the settings that show a difference, and what this installation computes with it.

    Takes a fraction of a second, once for each program of a process.

    :raises LocalConfigError: no protocol can run with its number formats.
    """
    text = _text(config)
    rows = json.dumps(config.formats.to_dict(), sort_keys=True).encode()
    listed = {
        "dense": ", ".join(f"{dense.columns} {dense.activation}" for dense in config.shape.dense),
        **{name: ", ".join(map(str, getattr(config.shape, name))) for name in ("shared", "rotary", "windows")},
    }
    if config.shape.image is not None:
        listed["image"] = ", ".join(f"{name} {value}" for name, value in asdict(config.shape.image).items())
    texts = {} if config.preprocessing is None else config.preprocessing.to_dict()
    settings = {
        COMPUTES: _computed(_Once(text, config)),
        "suite": config.suite.name,
        "softmax": config.formats.softmax,
        "embedding": config.embedding,
        "answers": ", ".join(config.answers),
        "weights": config.weights[:16],
        "calibration": hashlib.sha256(rows).hexdigest()[:16],
        **{f"model.{name}": value for name, value in (config.shape.to_dict() | listed).items()},
        **{f"texts.{name}": value for name, value in texts.items()},
    }
    return Program(hashlib.sha256(text.encode()).digest(), settings)


@dataclass(frozen=True, slots=True)
class _Once:
    """A program, by its text: formats are no keys of a cache."""

    text: str
    config: Config = field(compare=False)


@lru_cache(maxsize=16)
def _computed(program: _Once) -> str:
    """A digest of the numbers that this installation makes, and of the plan of a small request."""
    config, state = program.config, hashlib.sha256()
    try:
        state.update(known_answer(config))
        plans, length = Plans(config), least_length(config, LENGTH)
        state.update(plans.load.digest)
        for answer in answers(config):
            state.update(plans.infer(Size(1, length, answer, True)).digest)
    except (*MALFORMED, RuntimeError) as error:  # the latter is torch's
        reason = f"{type(error).__name__}: {error}"
        raise LocalConfigError(f"program: want formats that protocols can run with, got {reason}; {AGAIN}") from error
    return state.hexdigest()[:32]


def least_length(config: Config, wanted: int) -> int:
    """Tokens of a small request: so many, or as many as texts may have; images have all rows that there are."""
    return config.formats.longest if config.shape.image is not None else min(wanted, config.formats.longest)


@dataclass(frozen=True, slots=True)
class Size:
    """What is public of a request: sentences, tokens of the longest, what it asks for, and whether it is audited.

    extent: how much of each answer: the first columns of an embedding, 0 for all of it; masks to fill, 0 for one.
    """

    batch: int
    length: int
    answer: AnswerKind = "logits"
    audit: bool = False
    extent: int = 0

    @property
    def kind(self) -> tuple[AnswerKind, bool, int]:
        """What requests must have in common to run together."""
        return self.answer, self.audit, self.extent


def possible_answers(shape: BertShape) -> tuple[AnswerKind, ...]:
    """What a model can be asked for: the label, of a text or of each token, where there are several to choose from."""
    return ("logits", "label") if shape.chooses else ("logits",)


def answer_shape(shape: BertShape, size: Size) -> tuple[int, ...]:
    """Of the array that a client gets."""
    if shape.tells_tokens:
        return size.batch, size.length, shape.columns
    if shape.fills:
        return size.batch, places(size), shape.columns
    return size.batch, size.extent or shape.columns


def places(size: Size) -> int:
    """How many masks of each text are filled."""
    return size.extent or 1


def wanted_extent(config: Config, wanted: object) -> int:
    """How much of each answer was asked for, by somebody else or by an option; 0: all of it.

    :raises LocalInputError: the model's answers have no such part.
    """
    if type(wanted) is int and wanted == 0:
        return 0
    if config.shape.fills:
        if type(wanted) is not int or not 1 <= wanted <= config.formats.longest:
            raise LocalInputError(f"masks: want 1 to {config.formats.longest}, got {str(wanted)[:20]}")
        return wanted
    if config.shape.head != "embedding":
        raise LocalInputError(f"dim: want a model of embeddings, got {kind_of(config.shape)}")
    cut = config.preprocessing.truncate_dim if config.preprocessing else 0
    most = min(config.shape.columns, cut or config.shape.columns)
    if type(wanted) is not int or not 1 <= wanted <= most:
        raise LocalInputError(f"dim: want 1 to {most} columns, got {str(wanted)[:20]}")
    return wanted


def answers(config: Config) -> tuple[AnswerKind, ...]:
    """What a program can be asked for: what its model can, and its owner allows."""
    return tuple(answer for answer in possible_answers(config.shape) if answer in config.answers)


def allowing(config: Config, wanted: Sequence[str]) -> Config:
    """The program whose clients may ask for these answers only; for all, if none is named.

    :raises LocalConfigError: the model has no such answer.
    """
    possible = possible_answers(config.shape)
    if unknown := [answer for answer in wanted if answer not in possible]:
        raise LocalConfigError(f"answers: want {' or '.join(possible)} of this model, got {', '.join(unknown)}")
    return replace(config, answers=tuple(answer for answer in possible if answer in wanted)) if wanted else config


def extent_of(config: Config, dim: int | None = None, masks: int | None = None) -> int:
    """How much of each answer options ask for; what is None was not asked for.

    :raises LocalInputError: the model's answers have no such part.
    """
    if masks is not None and not config.shape.fills:
        raise LocalInputError(f"masks: want a model that fills masks, got {kind_of(config.shape)}")
    if dim is not None and config.shape.head != "embedding":
        raise LocalInputError(f"dim: want a model of embeddings, got {kind_of(config.shape)}")
    return wanted_extent(config, dim or masks or 0)


def kind_of(shape: BertShape) -> str:
    """What kind of model it is, for people."""
    kinds = {"classification": f"a classifier of {shape.labels} label(s)",
             "token-classification": f"a classifier of tokens of {shape.labels} label(s)",
             "question-answering": "a model that answers questions",
             "fill-mask": "a model that fills masks"}  # fmt: skip
    if shape.image is not None:
        return kinds.get(shape.head, "a model of embeddings") + " of images"
    return kinds.get(shape.head, "a model of embeddings")


def wanted_answer(config: Config, wanted: object) -> AnswerKind:
    """What was asked for, by somebody else or by an option.

    :raises LocalInputError: the program has no such answer, or its owner does not allow it.
    """
    for answer in answers(config):
        if wanted == answer:
            return answer
    kind = kind_of(config.shape)
    if config.shape.multi_label:
        kind += ", of which several may hold at once (those above 0.5 by the logits' sigmoid)"
    if wanted in possible_answers(config.shape):
        kind += ", whose owner allows no other"
    raise LocalInputError(f"answer: want {' or '.join(answers(config))} of {kind}, got {str(wanted)[:20]!r}")


class Plans:
    """The static plans of a program: of loading the weights, and of inference for each request size."""

    def __init__(self, config: Config) -> None:
        source = MeterSource()
        self.config = config
        self.load = measure(load(Party(source), config, parameter_shapes(config, "meta").items()), source)
        self._infer = lru_cache(KEPT_PLANS)(self._measure)

    def infer(self, size: Size) -> Plan:
        """The plan of one inference; those asked for last are kept."""
        return self._infer(size)

    def _measure(self, size: Size) -> Plan:
        source = MeterSource()
        tokens = token_shapes(self.config, size)
        model: Model = self.load.result
        keep = torch.ones(size.batch, size.length)
        return measure(audited_inference(Party(source), model, tokens, keep, *size.kind), source)


def parameter_shapes(config: Config, device: str) -> dict[str, Shared]:
    """Every parameter as shapes only (or zeros): what the meter and the dealer load."""
    return {q.name: Shared(ring.zeros(q.shape, q.bits, device), q.bits, q.frac, 0) for q in parameters(config)}


def token_shapes(config: Config, size: Size) -> list[Shared]:
    """What clients share for a request of this size, as shapes only."""
    shapes = [(size.batch, places(size) if x.of_places else size.length, *x.columns) for x in config.inputs]
    return [
        Shared(ring.zeros(shape, x.bits, "meta"), x.bits, x.frac, 0)
        for x, shape in zip(config.inputs, shapes, strict=True)
    ]
