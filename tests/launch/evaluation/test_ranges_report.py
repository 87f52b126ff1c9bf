"""Reports on ranges: shares of texts, and what is said of uses made by hand."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from mpcnet.errors import LocalConfigError
from mpcnet.launch.evaluation import plots, ranges, ranges_report
from mpcnet.launch.evaluation.ranges import Ranges, Shares
from mpcnet.models.formats.calibrate import Calibration, Range
from mpcnet.models.private.ranges import Site, Use, use


def site(name: str, margin: float = 1.5, most: float = 100.0) -> Site:
    """Calibrated up to 10."""
    return Site(name, (0.0, 10.0), margin, 0.0, most, lambda seen: seen.absmax, name)


def used(name: str, reached: Sequence[float], **changes: float) -> Use:
    return use(site(name, **changes), [Range(-value, 0.0, 1) for value in reached])


USES = [
    used("layer0.scores", [5.0, 10.0, 12.0, 13.0], margin=1.25, most=12.5),
    used("layer1.scores", [9.0, 10.5, 9.0, 9.0], margin=1.25, most=14.0),
    used("embedding.centred", [9.5, 16.0, 9.0, 9.0]),
]


def made(uses: Sequence[Use] = USES, model: str = "some_model") -> Ranges:
    return ranges.summary(
        uses, Calibration("", 91, 1000, {}), model=model, softmax="exact", data="sst-2 dev", longest=40
    )


def test_shares_are_of_texts_at_any_site() -> None:
    """The second text is in the first site's range, and leaves the others'."""
    shares = Shares.of(USES)
    assert shares.beyond == {"1": 0.75, "1.1": 0.75, "1.25": 0.5, "1.5": 0.25}
    assert (shares.margin, shares.limit) == (0.5, 0.25)
    assert Shares.of(USES[1:2]) == Shares({"1": 0.25, "1.1": 0.0, "1.25": 0.0, "1.5": 0.0}, 0.0, 0.0)


def test_what_is_nearest_to_its_limit() -> None:
    """Not the widest stretch, but the one with the least room."""
    row = made()
    assert row.nearest == "layer0.scores"
    assert [each.largest for each in row.sites] == [1.3, 1.05, 1.6]
    assert [each.room for each in row.sites] == [1.25, 1.4, 10.0]
    assert row.kinds == {"scores": [0.9, 1.05, 1.2, 1.3], "embedding.centred": [0.9, 0.9, 0.95, 1.6]}


def test_the_verdict() -> None:
    said = ranges_report.verdict(made())
    assert r"some\_model (exact), sst-2 dev: 1 of 4 texts pass a limit, 2 leave the planner's margin** " in said
    assert "3 a calibrated range (of 91 rows of text)" in said
    assert "layer0.scores, at 1.30 times what was calibrated, where 1.25 times are the limit." in said


@pytest.mark.parametrize(
    ("uses", "says"),
    [
        (
            USES,
            "no: 1 of 4 texts would get no answer, since a value passes its limit; run mpcnet calibrate --model M --texts",
        ),
        (
            USES[2:],
            "nearly: all 4 texts would be answered, 1 of them beyond the planner's margin; run mpcnet calibrate",
        ),
        (USES[1:2], "yes: all 4 texts stay within the planner's margin, 3 of them within the calibrated ranges"),
    ],
)
def test_whether_texts_are_alike(uses: Sequence[Use], says: str) -> None:
    assert ranges_report.alike(made(uses), "M").startswith(says)


def test_the_table_has_a_row_for_each_kind() -> None:
    """Of the layer that is stretched most; the limit and the shares are the worst of all layers."""
    row = made()
    scores = "| scores | layer0 | 10 | 1.25 | 1.25 | 1.300 | 50.00% | 50.00% | 25.00% | 0.00% | 25.00% | 25.00% |"
    table = ranges_report.table(row)
    assert table[2:] == [
        scores,
        "| embedding.centred | embedding | 10 | 1.5 | 10 | 1.600 | 25.00% | 25.00% | 25.00% | 25.00% | 25.00% | 0.00% |",
    ]
    shown = [next(iter(column.cells)) for column in ranges_report.shown(row).columns]
    assert shown == ["scores", "1.25", "1.25", "1.300", "50.00%", "25.00%", "25.00%"]


def test_files(tmp_path: Path) -> None:
    """The last line of each model and data set counts."""
    for row in (made(USES[:1]), made(model="another"), made()):
        ranges.append(tmp_path, row)
    assert ranges.load(tmp_path) == [made(), made(model="another")]
    text = ranges_report.write(tmp_path).read_text()
    assert text.index("- **some") < text.index("## some") < text.index("## another") < text.index("![")
    for name in re.findall(r"\]\(([a-z_]+\.(?:png|svg))\)", text):
        assert (tmp_path / name).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_lines_fall_where_texts_need_more() -> None:
    axes = plots.stretches([made()]).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["scores"].get_xdata()) == [0.9, 1.05, 1.2, 1.3]
    assert list(lines["scores"].get_ydata()) == [1.0, 0.75, 0.5, 0.25]
    margins = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert margins == [1.25, 1.5]


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match="want results of mpcnet ranges, got none"):
        ranges_report.write(tmp_path)
