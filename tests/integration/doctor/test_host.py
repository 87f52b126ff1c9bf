"""`mpcnet doctor`: a program or a machine that is not good for a party."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from kernels import without_kernels
from parties import tiny
from visits import by_check, config_of, doctor, levels, listening

from mpcnet.arrays.native import library
from mpcnet.launch.deployment import settings
from mpcnet.launch.doctor.host import check_device, check_disk, check_kernels, check_memory, check_program
from mpcnet.launch.party import budget
from mpcnet.models.private.program import Plans, Size
from mpcnet.protocols.division import RowRange


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((0.5, math.inf), "got 0.5 and inf"),
        ((math.nan, 1.0), "got nan and 1"),
        ((2.0, 2.0), "got 2 and 2"),
        ((-1.0, 2.0), "got -1 and 2"),
        (None, "embedding.square_sum: want a range, got none"),
    ],
)
def test_calibration(pair: tuple[float, float] | None, words: str) -> None:
    config = tiny().config()
    rows = {site: range_ for site, range_ in config.formats.rows.items() if site != "embedding.square_sum"}
    rows |= {"embedding.square_sum": RowRange(*pair)} if pair else {}
    found = by_check(check_program(replace(config, formats=replace(config.formats, rows=rows))))
    assert found["calibration"].level == "error" and words in found["calibration"].found


def test_calibration_of_windows() -> None:
    config = tiny().config()
    first, *others = config.formats.windows
    for windows in ((), ((replace(first[0], bits=5),), *others)):
        found = by_check(check_program(replace(config, formats=replace(config.formats, windows=windows))))
        assert "windows: want one of 6 or 7 or 8 or 9 or 10 bits in each layer, got [" in found["calibration"].found


def test_calibration_of_other_numbers() -> None:
    config = tiny().config(softmax="2quad")
    assert levels(by_check(check_program(config))) == {}
    rows = {site: pair for site, pair in config.formats.rows.items() if not site.endswith("row_sum")}
    for changes, words in (
        ({"rows": rows}, "layer0.row_sum: want a range"),
        ({"value_sizes": (math.inf,)}, "value_sizes: want 1 numbers > 0, got [inf]"),
        ({"longest": 17}, "longest: want 1 to 16 tokens, got 17"),
        ({"table_frac": 30}, "table: want fraction bits in a ring, got 30"),
    ):
        found = by_check(check_program(replace(config, formats=replace(config.formats, **changes))))
        assert words in found["calibration"].found


def test_device(tmp_path: Path) -> None:
    own = settings.Settings(tmp_path, "server0", {})
    assert levels(by_check(check_device(own))) == {}
    found = by_check(check_device(replace(own, device="cuda:99")))["device"]
    assert (found.level, "want cuda:99, got" in found.found) == ("error", True)


def test_kernels() -> None:
    assert (found := check_kernels()).found == library.level()
    with without_kernels():
        missing = check_kernels()
    assert (missing.level, missing.advice) == ("warning", "install a C compiler and reinstall mpcnet")
    assert found.level == ("ok" if library.load() else "warning")


def test_memory() -> None:
    plans = Plans(tiny().config())
    need = budget.RUNTIME_BYTES
    assert [check_memory(plans, total).level for total in (need, int(1.1 * need), 10 * need)] == [
        "error",
        "warning",
        "ok",
    ]


def test_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = replace(config_of(place, "server0"), tapes="tapes", ahead_sizes=(Size(2, 16),), ahead_runs=3)
    plans = Plans(tiny().config())
    dealt = [max(plans.infer(size).ledger.total().dealt_bytes) for size in (Size(1, 16), Size(2, 16))]
    need = dealt[0] + 3 * dealt[1]
    for free, level in ((need - 1, "error"), (need, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        finding = check_disk(plans, ours)
        assert finding.level == level and "4 runs need" in finding.found
    late = check_disk(plans, replace(ours, ahead_sizes=(Size(1, 16), Size(3, 17))))
    assert late.level == "error" and "ahead: 3x17, the program takes 16 tokens" in late.found
    (place / "server0/tapes").write_text("a file")
    assert "no folder that we may write to" in check_disk(plans, ours).found


async def test_tapes_are_looked_at(place: Path) -> None:
    settings.write(replace(config_of(place, "server0"), tapes="tapes"))
    async with listening(place, "dealer"):
        found = await doctor(place, "server0")
    assert found["tapes"].level == "ok" and not (place / "server0/tapes").exists()
