"""docs/configuration.md is what the declarations of the settings say."""

from pathlib import Path

from mpcnet.launch.deployment.config_page import page
from mpcnet.launch.deployment.settings import KEYS
from mpcnet.launch.party.node import TRACEBACK

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), (
        "run: python -m mpcnet.launch.deployment.config_page > docs/configuration.md"
    )


def test_every_key_has_one_row() -> None:
    rows = [line.split("|") for line in page().splitlines() if line.startswith("| `")]
    names = [row[1].strip(" `") for row in rows]
    assert len(names) == len(set(names)) and set(KEYS) | {TRACEBACK, "XDG_CACHE_HOME"} == set(names)
    assert all(row[-2].strip().endswith(".") for row in rows)  # each says what it means, in whole sentences


def test_rows_say_type_default_and_range() -> None:
    assert "| `timeout_s` | number | `60.0` | 0.1 to 86,400 | s | How long" in page()
    assert "| `ahead` | list of texts | `[]` |  |  | Sizes" in page()
    assert '| `log` | text | `"text"` | `text`, `json` |' in page()
    assert "| `role` | text | required |" in page()
