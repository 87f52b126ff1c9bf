"""What the bare package leaves out, and what is told to someone who needs it.

Servers and dealer run on the bare package. The extras of pyproject.toml bring the rest.
"""

from __future__ import annotations

from mpcnet.errors import LocalConfigError

EXTRAS = {
    "transformers": "client",
    "tokenizers": "client",
    "matplotlib": "bench",
    "accelerate": "distill",
    "onnx": "onnx",
    "gguf": "gguf",
    "PIL": "images",
}


def missing(error: ModuleNotFoundError) -> LocalConfigError | None:
    """The error to show where a module of an extra is not installed; None for any other module."""
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS:
        return None
    return LocalConfigError(
        f"{name}: want it installed, got no such package; run: pip install 'mpcnet[{EXTRAS[name]}]', "
        f"or, in a clone, pip install -c constraints.txt '.[{EXTRAS[name]}]'"
    )
