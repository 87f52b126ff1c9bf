"""The tables of docs/protocol.md are what the meter measures now."""

import re
from collections.abc import Callable

import pytest
from protocol_costs import ROWS
from protocol_tables import PAGE, with_tables

from mpcnet.protocols import arith, compare, gelu, softmax
from mpcnet.protocols.quad import quad


def test_the_page_has_the_figures_of_the_meter() -> None:
    page = PAGE.read_text()
    assert with_tables(page) == page, "run python tests/support/protocol_tables.py"


def test_a_figure_that_is_no_longer_right_is_noticed() -> None:
    page = PAGE.read_text()
    assert with_tables(page.replace("| 84.375 |", "| 84.5 |")) == page != page.replace("| 84.375 |", "| 84.5 |")
    with pytest.raises(ValueError, match="want one place for the table costs, got 0"):
        with_tables(page.replace("<!-- end: costs -->", ""))


STATED = {
    "Pi_Mul": arith.pi_mul,
    "Pi_Square": arith.pi_square,
    "Pi_LT": compare.pi_lt,
    "GeLU": gelu.gelu,
    "Pi_GeLU, sines": gelu.pi_gelu,
    "Pi_GeLU, polynomials": gelu.pi_gelu_polynomial,
    "tanh": gelu.tanh,
    "Quad": quad,
    "numerators of 2Quad": softmax.squares,
    "numerators of 2ReLU": softmax.relus,
}


@pytest.mark.parametrize("name", STATED)
def test_docstrings_state_the_figures_of_the_meter(name: str) -> None:
    """Where a docstring has one figure for one setting, that of the table."""
    (row,) = (row for row in ROWS if row.name == name)
    cost, stated = row.cost, STATED[name].__doc__ or ""
    assert number(stated, "Rounds")(cost.rounds)
    assert number(stated, "Sends")(cost.sent_bytes / row.count)
    assert number(stated, "Offline")(sum(cost.dealt_bytes) / row.count)


def number(docstring: str, field: str) -> Callable[[float], bool]:
    """Whether a figure is the one that a field begins with, in as many digits as are given there."""
    found = re.search(rf"^ *{field} +([\d.]+)", docstring, re.MULTILINE)
    assert found, f"no figure in {field}"
    text = found[1].rstrip(".")
    decimals = len(text.partition(".")[2])
    return lambda value: round(value, decimals) == float(text)


def test_a_figure_is_read_as_it_is_rounded() -> None:
    assert number("x\n\n    Sends    6.25 bytes", "Sends")(6.25)
    assert number("x\n\n    Offline  84.4 bytes", "Offline")(84.375)
    assert not number("x\n\n    Offline  84.5 bytes", "Offline")(84.375)
    assert number("Rounds   3: the opening and more", "Rounds")(3)
