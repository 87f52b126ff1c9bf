"""A family of every other kind of layer, from a folder as save_pretrained writes it, through five processes."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from mpcnet.launch.bench.seeded import save_seeded
from mpcnet.launch.simulate.localhost import Options, simulate

pytestmark = pytest.mark.slow


def test_modernbert_by_its_folder(tmp_path: Path) -> None:
    """LayerNorms before the halves, rotary positions, windows, gates."""
    folder = save_seeded(tmp_path / "model", "modernbert")
    texts = ["A private sentence.", "Nobody reads this one either, though it is longer than the windows of its layers."]
    outcome = simulate(texts, Options(str(folder)), Console(file=io.StringIO()))
    assert outcome.document["min_cosine"] > 0.9999
    assert not any(outcome.document["out_of_range"])
