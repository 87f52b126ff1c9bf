"""The public program: what all parties must agree on, as a file, and the plans of its runs.

`program.json` holds the architecture, the number formats, the suite, and how clients make tokens of texts: no weights,
and no hash of weights. Its digest is exchanged in every handshake; a difference ends both sides, naming the settings
that differ. No release of mpcnet is named in it: :data:`mpcnet.transport.handshake.FORMAT_VERSION` says which releases
it is for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch

from mpcnet.arrays import ring
from mpcnet.arrays.memory import Memory
from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.families.bert import AnswerKind, Config, Embedding, Model, load
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.parameters import parameters
from mpcnet.models.shape import BertShape
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.protocols.suites import SUITES
from mpcnet.randomness.meter import MeterSource, Plan, measure
from mpcnet.transport.handshake import FORMAT_VERSION, Program

FORMAT = "mpcnet program"
AGAIN = "make it again: mpcnet init"


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
    }


def save(config: Config, path: Path) -> None:
    path.write_text(json.dumps(to_dict(config), indent=1, sort_keys=True) + "\n", "utf-8")


def read(path: Path) -> Config:
    """:raises LocalConfigError: the file is missing, malformed, or of another format version."""
    try:
        values = json.loads(path.read_text("utf-8"))
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
        return Config(shape, formats, SUITES[values["suite"]], values["embedding"], preprocessing, labels)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise LocalConfigError(f"program {path}: want a program file, got {error!r}; {AGAIN}") from error


def agreement(config: Config) -> Program:
    """The digest of the program, and the settings that show a difference."""
    text = json.dumps(to_dict(config), sort_keys=True)
    rows = json.dumps(config.formats.to_dict(), sort_keys=True).encode()
    dense = ", ".join(f"{dense.columns} {dense.activation}" for dense in config.shape.dense)
    settings = {
        "suite": config.suite.name,
        "softmax": config.formats.softmax,
        "embedding": config.embedding,
        "calibration": hashlib.sha256(rows).hexdigest()[:16],
        **{f"model.{name}": value for name, value in (config.shape.to_dict() | {"dense": dense}).items()},
        **{f"texts.{name}": value for name, value in (to_dict(config)["preprocessing"] or {}).items()},
    }
    return Program(hashlib.sha256(text.encode()).digest(), settings)


@dataclass(frozen=True, slots=True)
class Size:
    """What is public of a request: sentences, tokens of the longest, what it asks for, and whether it is audited."""

    batch: int
    length: int
    answer: AnswerKind = "logits"
    audit: bool = False

    @property
    def kind(self) -> tuple[AnswerKind, bool]:
        """What requests must have in common to run together."""
        return self.answer, self.audit


def answers(config: Config) -> tuple[AnswerKind, ...]:
    """What a program can be asked for: the label of a classifier that has several to choose one from."""
    return ("logits", "label") if config.shape.labels >= 2 and not config.shape.multi_label else ("logits",)


def wanted_answer(config: Config, wanted: object) -> AnswerKind:
    """What was asked for, by somebody else or by an option.

    :raises LocalInputError: the program has no such answer.
    """
    for answer in answers(config):
        if wanted == answer:
            return answer
    kind = f"a classifier of {config.shape.labels} label(s)" if config.shape.labels else "a model of embeddings"
    if config.shape.multi_label:
        kind += ", of which several may hold at once (those above 0.5 by the logits' sigmoid)"
    raise LocalInputError(f"answer: want {' or '.join(answers(config))} of {kind}, got {str(wanted)[:20]!r}")


class Plans:
    """The static plans of a program: of loading the weights, and of inference for each request size."""

    def __init__(self, config: Config, memory: Memory | None = None) -> None:
        source = MeterSource()
        self.config = config
        self.memory = memory
        self.load = measure(load(Party(source), config, parameter_shapes(config, "meta").items()), source, memory)
        self._infer = cache(self._measure)

    def infer(self, size: Size) -> Plan:
        """The plan of one inference; the same object each time it is asked for."""
        return self._infer(size)

    def _measure(self, size: Size) -> Plan:
        source = MeterSource()
        tokens = token_shape(self.config, size)
        model: Model = self.load.result
        keep = torch.ones(size.batch, size.length)
        return measure(audited_inference(Party(source), model, tokens, keep, *size.kind), source, self.memory)


def parameter_shapes(config: Config, device: str) -> dict[str, Shared]:
    """Every parameter as shapes only (or zeros): what the meter and the dealer load."""
    return {q.name: Shared(ring.zeros(q.shape, q.bits, device), q.bits, q.frac, 0) for q in parameters(config)}


def token_shape(config: Config, size: Size) -> Shared:
    """What clients share for a request of this size, as shapes only."""
    bits = config.formats.table_bits
    words = ring.zeros((size.batch, size.length, config.input_columns), bits, "meta")
    return Shared(words, bits, config.input_frac, 0)
