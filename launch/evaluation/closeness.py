"""`mpcnet bench corpus`: private answers beside those of transformers, on texts of many scripts, kinds and lengths."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from rich.table import Table
from torch import Tensor

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.launch.evaluation.accuracy import progress, step
from mpcnet.launch.evaluation.corpus import Sample, corpus, count
from mpcnet.launch.evaluation.examples import in_order
from mpcnet.launch.options import DEMO, Calibration, Json, Model, SoftmaxName, SuiteName
from mpcnet.launch.reporting import report
from mpcnet.launch.reporting.screen import console, screen, warn
from mpcnet.launch.reporting.text_files import check_folder, emit
from mpcnet.launch.requests.compare import check_one_row
from mpcnet.launch.simulate import localhost
from mpcnet.launch.simulate.localhost import Options
from mpcnet.models.private import oracle_trace
from mpcnet.models.private.prepare import Prepared, prepare
from mpcnet.models.texts.tokens import Tokens, encode, load_tokenizer

if TYPE_CHECKING:
    from mpcnet.models.float_model.huggingface import Published

BUDGET = 1024  # tokens of a request: as many short texts, or two of 512


@dataclass(frozen=True, slots=True)
class Kind:
    """The texts of a kind: how near their answers are to transformers', and how many were found out of range.

    Cosines are of embeddings and of logits; a single logit's is its sign, so look at the error.
    """

    kind: str
    n: int
    tokens: int  # of the longest
    min_cosine: float
    mean_cosine: float
    max_abs_error: float
    out_of_range: int | None  # None: nobody looked


def corpus_command(
    model: Model = DEMO,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    calibration: Calibration = None,
    each: Annotated[int, typer.Option(min=1, help="Texts of a kind, of one token up to the longest.")] = 18,
    longest: Annotated[int, typer.Option(min=0, help="Tokens of the longest text; 0: all that the model reads.")] = 0,
    processes: Annotated[bool, typer.Option("--processes", help="Ask the real processes, not the oracle.")] = False,
    json_file: Json = "",
) -> None:
    """How near private answers are to transformers', by script and kind of text, from one token to the longest.

    Without --processes the answers are those of the fixed-point oracle: the private program on whole values, in one
    process. transformers (or sentence-transformers) reads the model's folder by itself. None of the texts is a
    calibration text.
    """
    check_folder(json_file)
    with console.status("preparing the model") as status:
        prepared = prepare(model, suite, softmax, max(longest, 1), calibration, say=status.update)
        if prepared.random:
            raise LocalConfigError(f"corpus: want a checkpoint, got {model}, whose weights are random")
        check_one_row(prepared.config.shape)
        status.update("making the texts")
        samples, tokens = _texts(prepared, longest or prepared.config.formats.longest, each)
    warn(prepared)
    grouped = groups(tokens)
    options = Options(model, suite, softmax, calibration=calibration, accept=True)
    answer = _private if processes else _oracle
    mine, out_of_range = answer(prepared, tokens, grouped, options)
    theirs = _theirs(prepared, samples)
    kinds = by_kind(samples, tokens, mine, theirs, out_of_range)
    facts = {"model": model, "suite": suite, "softmax": prepared.config.formats.softmax}
    facts |= {"answers": "processes" if processes else "oracle", "machine": report.machine(), "commit": report.commit()}
    document = {"bench": "corpus", **asdict(together(kinds)), **facts, "kinds": [asdict(kind) for kind in kinds]}
    emit(document, json_file)
    if json_file != "-":
        screen().print(_table(kinds, f"{model}, {suite} suite, {facts['softmax']} softmax, {facts['answers']}"))
        print(json.dumps({key: value for key, value in document.items() if key != "kinds"}))


def _texts(prepared: Prepared, longest: int, each: int) -> tuple[list[Sample], Tokens]:
    """The corpus as this model's tokenizer reads it, of at most `longest` tokens.

    :raises LocalInputError: the model has no room for a word.
    """
    source = prepared.checkpoint.source
    tokenizer = load_tokenizer(source)
    around = len(tokenizer("")["input_ids"])
    if longest <= around:
        raise LocalInputError(f"corpus: want more than the {around} tokens that stand around a text, got {longest}")
    made = corpus(tokenizer, longest - around, each)
    samples = [sample for sample in made if count(tokenizer, sample.text)]  # in some a tokenizer finds nothing
    texts = [sample.text for sample in samples]
    return samples, encode(source, texts, longest, prepared.checkpoint.preprocessing, prepared.config.shape)


def groups(tokens: Tokens) -> list[list[int]]:
    """Rows of the same length together, up to the budget of tokens, shortest first."""
    by_length: dict[int, list[int]] = {}
    for row, length in enumerate(tokens.mask.sum(1).tolist()):
        by_length.setdefault(length, []).append(row)
    found = []
    for length, rows in sorted(by_length.items()):
        size = max(1, BUDGET // length)
        found += [rows[start : start + size] for start in range(0, len(rows), size)]
    return found


def _oracle(
    prepared: Prepared, tokens: Tokens, grouped: Sequence[Sequence[int]], options: Options
) -> tuple[Tensor, list[bool] | None]:
    """Answers of the private program in this process, audited."""
    with torch.inference_mode(), progress(console) as bar:
        whole = oracle_trace.load_plain(prepared.config, prepared.folded)
        each = step(bar, "fixed-point oracle", len(grouped))

        def run(rows: Tokens) -> Tensor:
            values, out_of_range = oracle_trace.audited_answer(whole, prepared.folded, rows)
            return torch.cat([values, out_of_range.to(values.dtype).unsqueeze(1)], 1)

        found = in_order(grouped, tokens, run, each).double()
    preprocessing, values = prepared.config.preprocessing, found[:, :-1]
    values = values if preprocessing is None else preprocessing.finished(values)
    return values, found[:, -1].bool().tolist()


def _private(
    prepared: Prepared, tokens: Tokens, grouped: Sequence[Sequence[int]], options: Options
) -> tuple[Tensor, list[bool] | None]:
    """Answers of the real processes, audited."""
    outcome = localhost.run(prepared, [tokens.rows(group) for group in grouped], options, console)
    places = torch.tensor([row for group in grouped for row in group]).argsort()
    out_of_range = torch.tensor(outcome.document["out_of_range"])[places].tolist()
    return outcome.private[places], out_of_range


def _theirs(prepared: Prepared, samples: Sequence[Sample]) -> Tensor:
    """What others make of the model's own folder, [n, columns], float64."""
    from mpcnet.models.float_model.huggingface import published  # transformers: only who compares waits for it

    theirs = published(prepared.checkpoint, prepared.config.formats.softmax)
    with torch.inference_mode(), progress(console) as bar:
        each = step(bar, theirs.by, len(samples))
        return torch.cat([_one(theirs, sample.text, each) for sample in samples])


def _one(theirs: Published, text: str, each: Callable[[], None]) -> Tensor:
    found = theirs([text])
    each()
    return found


def by_kind(
    samples: Sequence[Sample], tokens: Tokens, mine: Tensor, theirs: Tensor, out_of_range: Sequence[bool] | None
) -> list[Kind]:
    """A row for each kind, in the order of the corpus."""
    cosines = torch.cosine_similarity(mine, theirs, dim=1)
    errors, counts = (mine - theirs).abs().amax(1), tokens.mask.sum(1)
    rows: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        rows.setdefault(sample.kind, []).append(row)
    return [
        Kind(
            kind,
            len(own),
            int(counts[own].max()),
            cosines[own].min().item(),
            cosines[own].mean().item(),
            errors[own].max().item(),
            None if out_of_range is None else sum(out_of_range[row] for row in own),
        )
        for kind, own in rows.items()
    ]


def together(kinds: Sequence[Kind]) -> Kind:
    """All kinds as one."""
    n = sum(kind.n for kind in kinds)
    flagged = [kind.out_of_range for kind in kinds if kind.out_of_range is not None]
    return Kind(
        "all",
        n,
        max(kind.tokens for kind in kinds),
        min(kind.min_cosine for kind in kinds),
        sum(kind.mean_cosine * kind.n for kind in kinds) / n,
        max(kind.max_abs_error for kind in kinds),
        sum(flagged) if flagged else None,
    )


def _table(kinds: Sequence[Kind], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("kind", "n", "longest", "least cosine", "mean", "largest error", "out of range"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind in (*kinds, together(kinds)):
        table.add_row(*_cells(kind), style="bold" if kind.kind == "all" else "")
    return table


def _cells(kind: Kind) -> list[str]:
    values = (f"{kind.min_cosine:.7f}", f"{kind.mean_cosine:.7f}", f"{kind.max_abs_error:.5f}")
    out_of_range = "not checked" if kind.out_of_range is None else str(kind.out_of_range)
    return [kind.kind, str(kind.n), str(kind.tokens), *values, out_of_range]
