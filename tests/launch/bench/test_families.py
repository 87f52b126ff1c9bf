"""The table of families: each has a seeded model, and a row is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpcnet.launch.bench import command, families, seeded
from mpcnet.models.checkpoints.families import FAMILIES
from mpcnet.models.head_shape import Head

PAGE = Path(__file__).parents[3] / "docs" / "models.md"


def test_every_family_has_a_seeded_model_and_a_place_in_the_page() -> None:
    assert seeded.SETTINGS.keys() == FAMILIES.keys()
    page = PAGE.read_text("utf-8")
    assert [kind for kind in FAMILIES if f"`{kind}`" not in page] == []


@pytest.mark.parametrize(
    ("kind", "head"), [("modernbert", "embedding"), ("xlm-roberta", "classification"), ("albert", "fill-mask")]
)
def test_a_row_is_near_transformers(kind: str, head: Head) -> None:
    row = families.seeded(kind, head)
    assert (row["family"], row["layers"], row["out_of_range"]) == (
        kind,
        seeded.SETTINGS[kind].get("num_hidden_layers", 2),
        0,
    )
    assert row["max_abs_error"] < 0.02
    if head != "embedding":
        assert (row["cosine"], row["agreement"]) == (None, "3 of 3")
    else:
        assert row["cosine"] > 0.9999
    assert row["rounds"] > 40


def test_an_unknown_family_is_named() -> None:
    result = CliRunner().invoke(command.app, ["models", "--family", "t5"])
    assert "--family: want albert, bert" in str(result.exception)
