"""`mpcnet bench kernels`, of few kernels and runs."""

import io
import json

import pytest
from rich.console import Console

from mpcnet.arrays import ring
from mpcnet.errors import LocalInputError
from mpcnet.launch.bench.kernels import bench


def test_one_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Console(file=io.StringIO(), width=200)
    bench(3, "keystream", ring.combine, "cpu", shown)
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["kernel"], row["bits"], row["n"]) == ("keystream", 64, 3)
    assert 0 < row["seconds_min"] <= row["seconds_median"] <= row["seconds_max"]
    assert "keystream" in shown.file.getvalue()


def test_no_kernel_of_that_name() -> None:
    with pytest.raises(
        LocalInputError, match=r"only: want a part of one of query, key, value; .*keystream.*got 'gelu'"
    ):
        bench(1, "gelu", ring.combine, "cpu", Console(file=io.StringIO()))
