"""The report of a grid in Markdown, from its results alone: what they say, one table, the plots."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from mpcnet.errors import LocalConfigError
from mpcnet.launch.netem import findings, plots
from mpcnet.launch.netem.findings import Compared
from mpcnet.launch.netem.results import Base, Failure, Point, Result, Row, load, rate_name, rtt_name
from mpcnet.launch.reporting import markdown

FILE = "report.md"
MODEL = (
    "online seconds = rounds x RTT / 2 + bytes / bandwidth + compute + overhead. Both servers send their half of a "
    "round at once, so a round costs one flight. The client's clock starts when it hears that the run has begun and "
    "ends with the answer; both take one flight, so none is added. Rounds, bytes of one server and its seconds of "
    "compute are of the same run, without its warm-up. RTT and bandwidth are those that probes found on the same "
    "network just before the run: a link that is not what it was asked to be is no error of the model. The overhead "
    "is what event loops, TLS, threads and the servers' waiting for each other take. It is measured once for each "
    "work, in a run over no link (inproc: channels that are not shaped; tun and netem: hosts joined by plain cables): "
    "the online time less the other terms, these with what the same probes found there. It is taken to be the same "
    "over every link. Nothing is fitted. Requests in several streams are set beside complete overlap instead, the "
    "larger of compute and all the rest."
)


def write(folder: Path) -> Path:
    """Make report and plots from the results in `folder`; returns the report's path.

    :raises LocalConfigError: there are none, or the folder cannot be written.
    """
    rows = load(folder)
    if not rows:
        raise LocalConfigError(f"{folder}: want results of mpcnet netem, got none")
    return markdown.write(folder / FILE, compose(list(rows.values()), plots.write(_results(rows.values()), folder)))


def compose(rows: Sequence[Row], figures: Mapping[str, str]) -> str:
    """The report; `figures` are the plots' file names without their endings, and what each shows."""
    results = _results(rows)
    failures = [row for row in rows if isinstance(row, Failure)]
    bases = sorted((row for row in rows if isinstance(row, Base)), key=lambda base: base.work)
    lines = ["# Latency experiments", "", *_what_ran([*results, *failures], results)]
    for how, group in _grouped(results, lambda point: point.how):
        lines += _verdict(how, group)
    lines += _overhead_lines(bases)
    lines += [*_overlap_lines(results), *_batch_lines(results), *_failure_lines(failures)]
    lines += ["", f"*Model of time:* {MODEL}", ""]
    if results:
        lines += ["## Points", "", *_table(results), ""]
    if bases:
        lines += ["## Over no link", "", *_base_table(bases), ""]
    return "\n".join([*lines, *markdown.figures(figures)])


def _results(rows: Iterable[Row]) -> list[Result]:
    return sorted((row for row in rows if isinstance(row, Result)), key=lambda result: result.point)


def _grouped(results: Iterable[Result], key: Callable[[Point], str]) -> list[tuple[str, list[Result]]]:
    ordered = sorted(results, key=lambda result: key(result.point))
    return [(name, list(group)) for name, group in groupby(ordered, key=lambda result: key(result.point))]


def _what_ran(rows: Sequence[Result | Failure], results: Sequence[Result]) -> list[str]:
    runs = _range([result.n for result in results], str) if results else "0"
    machines, commits = (sorted({getattr(row, name) for row in rows}) for name in ("machine", "commit"))
    models = sorted({row.point.model for row in rows})
    return [
        f"- **What ran:** {len(results)} points measured, {len(rows) - len(results)} failed; "
        f"model {', '.join(models)}; n = {runs} timed requests a point, after one that warms up; "
        f"{'; '.join(machines)}; commit {', '.join(commits)}."
    ]


def _verdict(how: str, results: Sequence[Result]) -> list[str]:
    """Does the model hold in the claimed range, which points are outside, and why."""
    claimed = [result for result in results if findings.is_claimed(result.point)]
    if not claimed:
        return [f"- **{how}:** no point of one stream with RTT 1-80 ms and 50-1000 Mbit/s, so no verdict on the model."]
    outside = [result for result in claimed if not findings.is_within(result)]
    asked = sum(abs(findings.residual_as_asked(result)) <= findings.TOLERANCE for result in claimed)
    bare = sum(abs(findings.residual_without_overhead(result)) <= findings.TOLERANCE for result in claimed)
    residuals = [result.residual for result in claimed]
    lines = [
        f"- **{how}: the prediction is within {findings.TOLERANCE:.0%} at {len(claimed) - len(outside)} of "
        f"{len(claimed)} points** ({_covered(claimed)}); residuals {min(residuals):+.1%} to {max(residuals):+.1%}, "
        f"their median size {statistics.median(map(abs, residuals)):.1%}. "
        f"With the link as asked for in place of the probed one: {asked} of {len(claimed)}; without the overhead: "
        f"{bare} of {len(claimed)}."
    ]
    for why in sorted({findings.reason(result) for result in outside}):
        named = [_named(result) for result in outside if findings.reason(result) == why]
        lines.append(f"  - Outside, likely {why}: {'; '.join(named)}.")
    beyond = [result for result in results if result.point.streams == 1 and result not in claimed]
    if beyond:
        lines.append(f"  - Beyond the claimed range: {'; '.join(map(_named, beyond))}.")
    return lines


def _covered(results: Sequence[Result]) -> str:
    rtts = _range([result.point.rtt_s for result in results], rtt_name)
    return f"RTT {rtts}, {_range([result.point.bandwidth_bps for result in results], rate_name)}, one stream"


def _range(values: Sequence[float], name: Callable[[float], str]) -> str:
    least, most = name(min(values)), name(max(values))
    return least if least == most else f"{least} to {most}"


def _named(result: Result) -> str:
    each_ms = 1e3 * findings.gap_s(result) / result.rounds
    return f"{result.point.work_name}, {result.point.link_name} ({result.residual:+.1%}, {each_ms:+.2f} ms a round)"


def _overhead_lines(bases: Sequence[Base]) -> list[str]:
    lines = []
    for how, group in groupby(bases, key=lambda base: base.work.how):
        found = list(group)
        seconds = _range([base.overhead_s for base in found], lambda value: f"{value:.2f} s")
        each = _range([1e3 * base.between_rounds_s / base.rounds for base in found], lambda value: f"{value:.2f} ms")
        works = f"{len(found)} work{'s' if len(found) > 1 else ''}"
        lines.append(f"- **Overhead, {how}:** {seconds} a request over no link, {each} of it a round ({works}).")
    return lines


def _overlap_lines(results: Sequence[Result]) -> list[str]:
    lines = []
    for name, compared in _by_size(findings.overlaps(results)):
        ratios = [each.ratio for each in compared]
        lines.append(
            f"- **Overlap, {name}:** {_range(ratios, _ratio)} of the online time in one stream, median "
            f"{statistics.median(ratios):.2f}, at {_count(ratios)}."
        )
    return lines


def _batch_lines(results: Sequence[Result]) -> list[str]:
    lines = []
    for name, compared in _by_size(findings.batches(results)):
        bound = [each.ratio for each in compared if each.latency_bound]
        others = [each.ratio for each in compared if not each.latency_bound]
        said = []
        if bound:
            met = sum(ratio <= findings.BATCH_GOAL for ratio in bound)
            goal = f"; goal: at most {findings.BATCH_GOAL} times, met at {met} of {len(bound)}"
            goal = goal if compared[0].result.point.batch == 4 else ""
            said.append(f"{_range(bound, _ratio)} where flights are half of the time or more ({_count(bound)}{goal})")
        if others:
            said.append(f"{_range(others, _ratio)} where compute and bytes are ({_count(others)})")
        lines.append(f"- **Batch, {name}:** times the online time of one sentence: {'; '.join(said)}.")
    return lines


def _by_size(compared: Sequence[Compared]) -> list[tuple[str, list[Compared]]]:
    """All suites and links together."""
    groups: dict[str, list[Compared]] = {}
    for each in compared:
        groups.setdefault(f"{each.result.point.how}, {each.result.point.size_name}", []).append(each)
    return list(groups.items())


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _count(ratios: Sequence[float]) -> str:
    return f"{len(ratios)} point{'s' if len(ratios) > 1 else ''}"


def _failure_lines(failures: Sequence[Failure]) -> list[str]:
    return [
        f"- **Failed:** {row.point.how}, {row.point.work_name}, {row.point.link_name}: {markdown.cell(row.error)}"
        for row in failures
    ]


def _table(results: Sequence[Result]) -> list[str]:
    """One row a point. Bytes are payload of one server, each way."""
    gains = {
        "x 1 stream": {each.result.point: each.ratio for each in findings.overlaps(results)},
        "x 1 sentence": {each.result.point: each.ratio for each in findings.batches(results)},
    }
    gains = {name: ratios for name, ratios in gains.items() if ratios}
    titles = ["network", "work", "RTT, ms (probed)", "bandwidth, Mbit/s (probed)", "rounds", "online, MB"]
    titles += ["dealt, MB", "offline, s", "online, s (least to most)", "compute, s", "overhead, s", "predicted, s"]
    titles += ["residual", "n"]
    titles += gains
    rows = []
    for result in results:
        ratios = [_ratio(known[result.point]) if result.point in known else "" for known in gains.values()]
        rows.append([*_cells(result), *ratios])
    return markdown.table(titles, rows)


def _base_table(bases: Sequence[Base]) -> list[str]:
    """One row a work. What is explained is by the other terms, with what the probes found there."""
    titles = ["network", "work", "RTT, ms (probed)", "Mbit/s (probed)", "rounds", "online, s (least to most)"]
    titles += ["compute, s", "explained, s", "overhead, s", "between rounds, ms each", "at both ends, s", "n"]
    rows = []
    for base in bases:
        online, probed = base.seconds_online, base.probe
        rows.append(
            [
                probed["network"],
                base.work.name,
                f"{1e3 * probed['rtt_s']:.3f}",
                f"{probed['goodput_bps'] / 1e6:.0f}",
                f"{base.rounds:g}",
                f"{online.median:.3f} ({online.least:.3f} to {online.most:.3f})",
                f"{base.compute_s:.3f}",
                f"{base.explained_s:.3f}",
                f"{base.overhead_s:.3f}",
                f"{1e3 * base.between_rounds_s / base.rounds:.3f}",
                f"{base.overhead_s - base.between_rounds_s:.3f}",
                str(base.n),
            ]
        )
    return markdown.table(titles, rows)


def _cells(result: Result) -> list[str]:
    point, online, probed = result.point, result.seconds_online, result.probed
    return [
        point.how,
        point.work_name,
        f"{point.rtt_s * 1e3:g} ({probed.rtt_s * 1e3:.2f})",
        f"{point.bandwidth_bps / 1e6:g} ({probed.bandwidth_bps / 1e6:.0f})",
        f"{result.rounds:g}",
        f"{result.sent_bytes / 1e6:.2f}",
        f"{result.offline_bytes / 1e6:.1f}",
        f"{result.seconds_offline.median:.2f}",
        f"{online.median:.2f} ({online.least:.2f} to {online.most:.2f})",
        f"{result.compute_s:.2f}",
        f"{result.overhead_s:.2f}",
        f"{result.predicted_s:.2f}",
        f"{result.residual:+.1%}",
        str(result.n),
    ]
