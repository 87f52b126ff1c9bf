"""The Python blocks of docs/python.md run as they stand, and the page names all that is public."""

import re
from pathlib import Path

import pytest

import mpcnet

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {number}" for number in range(1, len(BLOCKS) + 1)])
def test_block(block: str) -> None:
    exec(compile(block, "docs/python.md", "exec"), {"__name__": "__main__"})


def test_the_page_names_what_is_public() -> None:
    assert len(BLOCKS) == 5
    missing = [name for name in mpcnet.__all__ if not name.startswith("_") and not re.search(rf"\b{name}\b", PAGE)]
    assert missing == []
