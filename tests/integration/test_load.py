"""`mpcnet bench load`: many clients at once, over real processes."""

import json

import pytest
from typer.testing import CliRunner

from mpcnet.launch.bench import load
from mpcnet.launch.cli import app


def test_all_clients_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two certificates, one of them of two clients; nobody fails, and every step says what it saw."""
    monkeypatch.setattr(load, "EACH", 2)
    line = [
        "bench",
        "load",
        "--model",
        "bert-tiny",
        "--clients",
        "1,3",
        "--seconds",
        "3",
        "--tokens",
        "5",
        "--json",
        "-",
    ]
    done = CliRunner().invoke(app, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    assert [row["clients"] for row in rows] == [1, 3]
    for row in rows:
        assert row["failed"] == 0 and row["answered"] > 0
        assert 0 < row["p50_s"] <= row["p99_s"]
        assert row["resident_bytes"].keys() == load.COMMANDS.keys()


@pytest.mark.parametrize("clients", ["", "0", "1,x", "-1"])
def test_clients_that_are_none(clients: str) -> None:
    done = CliRunner().invoke(app, ["bench", "load", f"--clients={clients}"])
    assert "want whole numbers from 1 on" in str(done.exception)
