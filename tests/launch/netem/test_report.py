"""The report of a grid: verdicts, gains, what is told of failures, and that the files are there."""

import re
from pathlib import Path

import pytest
from netem_points import OVERHEAD_S, POINT, WAIT_S, expected_s, made, made_base

from mpcnet.errors import LocalConfigError
from mpcnet.launch.netem import report
from mpcnet.launch.netem.findings import batches, overlaps, reason
from mpcnet.launch.netem.report import compose
from mpcnet.launch.netem.results import Failure, append
from mpcnet.transport.latency import Link

FAILED = Failure(POINT, "dealer (exit code 70): it | *said* this", "0123abc", "a machine")


def verdict(text: str) -> str:
    """The line on the model of time."""
    (line,) = [line for line in text.splitlines() if "the prediction is within" in line]
    return line


def test_all_within() -> None:
    text = compose([made(0.03), made(-0.02, rtt_s=0.08)], {})
    assert "within 10% at 2 of 2 points** (RTT 10 ms to 80 ms, 100 Mbit/s, one stream)" in verdict(text)
    assert "residuals -2.0% to +3.0%, their median size 2.5%" in verdict(text)
    assert "Outside" not in text


def test_a_point_outside_is_named_with_its_reason() -> None:
    text = compose([made(0.03), made(0.25, rtt_s=0.001)], {})
    assert "1 of 2 points" in verdict(text)
    (line,) = [line for line in text.splitlines() if line.startswith("  - Outside")]
    assert "over no link" in line and "1 ms, 100 Mbit/s (+25.0%, +3.03 ms a round)" in line and "10 ms" not in line


def test_the_claim_ends_at_its_range() -> None:
    """RTT 0 is told, and not counted; several streams are not counted either."""
    text = compose([made(0.03), made(0.5, rtt_s=0.0), made(0.5, batch=4, streams=4)], {})
    assert "1 of 1 points" in verdict(text)
    assert "Beyond the claimed range: fast, exact, 1 x 128 tokens, 0 ms, 100 Mbit/s (+50.0%, +5.80 ms a round)" in text


def test_the_prediction_takes_the_probed_link() -> None:
    """A link twice as slow as asked for is no error of the model; the table shows both links."""
    probed = Link(rtt_s=0.020, bandwidth_bps=5e7)
    result = made(0.0, probed=probed)
    assert result.residual == pytest.approx(0.0)
    assert (
        result.predicted_s == pytest.approx(expected_s(POINT, probed)) != pytest.approx(expected_s(POINT, POINT.link))
    )
    text = compose([result], {})
    assert "at 1 of 1 points" in verdict(text) and "in place of the probed one: 0 of 1;" in verdict(text)
    assert "| 10 (20.00) | 100 (50) |" in text


def test_reasons() -> None:
    assert reason(made(0.2, spread=0.5)).startswith("noise")
    assert reason(made(-0.2)).startswith("shorter than predicted")
    assert reason(made(0.2, how="tun", rtt_s=0.08)).startswith("TCP")
    assert "2 cores" in reason(made(0.2, rtt_s=0.08)) and "2 cores" in reason(made(0.2, how="tun", rtt_s=0.001))


def test_the_overhead_is_told_and_so_is_what_it_changes() -> None:
    """Of a time that has 0.3 s more than rounds, bytes and compute, 0.3 s was measured over no link."""
    quick, slow = made(0.0, rtt_s=0.001), made(0.0, rtt_s=0.08)
    assert quick.overhead_s == slow.overhead_s == pytest.approx(OVERHEAD_S)
    text = compose([quick, slow, made_base()], {})
    assert "at 2 of 2 points" in verdict(text) and verdict(text).endswith("without the overhead: 1 of 2.")
    (line,) = [line for line in text.splitlines() if line.startswith("- **Overhead")]
    # Of the wait of 0.5 s the probes explain 168 flights of 0.05 ms and 5 MB at 10 Gbit/s.
    between_s = WAIT_S - 168 * 0.00005 - 0.004
    each_ms, ends_s = 1e3 * between_s / 168, OVERHEAD_S - between_s
    assert line == f"- **Overhead, inproc:** 0.30 s a request over no link, {each_ms:.2f} ms of it a round (1 work)."
    row = f"| 1.250 | {1.25 + 168 * 0.00005 + 0.004:.3f} | 0.300 | {each_ms:.3f} | {ends_s:.3f} | 3 |"
    assert row in text
    assert "2 points measured, 0 failed" in text


def test_the_warm_up_is_in_no_time() -> None:
    assert made(0.0).seconds_online.most < 9.0 and made(0.0).n == 3


def test_overlap_is_set_beside_one_stream() -> None:
    one, four = made(0.0, batch=4), made(0.0, batch=4, streams=4)
    (compared,) = overlaps([one, four, made(0.0)])
    assert compared.base is one and compared.ratio == pytest.approx(four.predicted_s / one.predicted_s)
    text = compose([one, four], {})
    assert f"**Overlap, inproc, 4 x 128 tokens, 4 streams:** {compared.ratio:.2f} of the online time" in text
    assert "| x 1 stream |" in text


def test_batch_four_beside_one() -> None:
    """The goal is about links whose flights are at least half of the time."""
    slow = [made(0.0, rtt_s=0.08), made(0.0, rtt_s=0.08, batch=4)]
    quick = [made(0.0, rtt_s=0.001), made(0.0, rtt_s=0.001, batch=4)]
    assert [each.latency_bound for each in batches([*slow, *quick])] == [True, False]
    text = compose([*slow, *quick], {})
    assert (
        "(1 point; goal: at most 1.5 times, met at 0 of 1)" in text and "where compute and bytes are (1 point)" in text
    )
    assert "| x 1 sentence |" in text and "| x 1 stream |" not in text


def test_a_failure_is_one_line_that_markdown_does_not_read() -> None:
    text = compose([FAILED, made(0.0, length=64)], {})
    assert "1 points measured, 1 failed" in text
    assert r"dealer (exit code 70): it \| \*said\* this" in text


def test_files(tmp_path: Path) -> None:
    """Report and plots come from the results alone, and every plot that is named is there."""
    for row in (made(0.02), made(0.05, rtt_s=0.04), made(0.1, how="tun", bandwidth_bps=1e9), FAILED):
        append(tmp_path, row)
    text = report.write(tmp_path).read_text()
    names = re.findall(r"\]\(([a-z_]+\.(?:png|svg))\)", text)
    assert len(names) == 8
    for name in names:
        start = (tmp_path / name).read_bytes()[:5]
        assert start in (b"\x89PNG\r", b"<?xml")
    assert text.index("What ran") < text.index("## Points") < text.index("![")


def test_only_failures_still_make_a_report(tmp_path: Path) -> None:
    append(tmp_path, FAILED)
    text = report.write(tmp_path).read_text()
    assert "0 points measured, 1 failed" in text and "![" not in text


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match="want results of mpcnet netem, got none"):
        report.write(tmp_path)
