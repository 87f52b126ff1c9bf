"""How all plots look, and their files. Colours are Okabe and Ito's, told apart by colour-blind people; every series
also has a marker, a line or a hatch of its own, for print without colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from mpcnet.errors import LocalConfigError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: Sequence[Literal["-", "--", "-.", ":"]] = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----")
STYLE: Any = {
    "font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#d9d9d9", "grid.linewidth": 0.6, "axes.axisbelow": True, "svg.hashsalt": "mpcnet",
    "svg.fonttype": "none", "legend.frameon": False, "hatch.linewidth": 0.6, "figure.dpi": 150,
}  # fmt: skip


def save(figure: Figure, folder: Path, name: str) -> None:
    """As PNG and as SVG.

    :raises LocalConfigError: a file cannot be written.
    """
    for ending, metadata in (("png", {}), ("svg", {"Date": None})):
        path = folder / f"{name}.{ending}"
        try:
            figure.savefig(path, metadata=metadata)
        except OSError as error:
            raise LocalConfigError(f"{path}: cannot write: {error.strerror}") from error
