"""Files that transformers does not read as they are, written anew for it: what an ONNX graph, a GGUF file, or a base
model with its adapter hold, as safetensors in a folder that is there for a moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file

from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.model_files import ModelFiles, read_files
from mpcnet.models.checkpoints.modules import INDEX
from mpcnet.models.checkpoints.source import find, read_json
from mpcnet.models.float_model.pipelines import root
from mpcnet.models.preprocessing import TOKENIZER_FILES


@contextmanager
def loadable(found: Checkpoint) -> Iterator[tuple[Checkpoint, str]]:
    """The checkpoint with folders that transformers loads, and how much of the reading was not its own: "" mostly.

    :raises LocalConfigError: a file is not there any more, or damaged.
    """
    folder = root(found.origin, found.source)
    files = read_files(folder)
    if not files.rewritten:
        yield found, ""
        return
    with TemporaryDirectory(prefix="mpcnet-model-") as name:
        target = Path(name)
        _write(found, files, Path(folder), target)
        inner = target / files.modules.folder
        yield replace(found, source=str(inner), origin=str(target)), f", of {files.weights.name} as it is read here"


def _write(found: Checkpoint, files: ModelFiles, given: Path, target: Path) -> None:
    inner = target / files.modules.folder
    inner.mkdir(parents=True, exist_ok=True)
    index = find(str(given), INDEX)
    below = [str(row["path"]) for row in read_json(index)] if index else []
    for folder in dict.fromkeys(["", *below]):
        (target / folder).mkdir(exist_ok=True)
        for path in (given / folder).iterdir() if (given / folder).is_dir() else ():  # Normalize needs no file
            if path.is_file() and (folder != files.modules.folder or path.suffix in (".json", ".txt", ".model")):
                os.symlink(path.resolve(), target / folder / path.name)
    for name in TOKENIZER_FILES:  # a base model's
        path = Path(found.source, name)
        if path.is_file() and not (inner / name).exists():
            os.symlink(path.resolve(), inner / name)
    for name in ("adapter_config.json", "config.json"):
        (inner / name).unlink(missing_ok=True)
    names = {"id2label": dict(enumerate(found.labels))} if found.labels else {}  # as many as the weights have
    (inner / "config.json").write_text(json.dumps({**files.config, **names}), "utf-8")
    with files.tensors() as stored:
        save_file(
            {name: each.read().float().contiguous() for name, each in stored.items()}, inner / "model.safetensors"
        )
