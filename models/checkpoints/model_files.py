"""A model's folder or hub name, whatever files it comes in: its configuration, its modules, and its tensors to read.

Families do not matter here: names are those that the model's own code gives its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.adapters import Adapter, adapted_tensors, base_config, read_adapter
from mpcnet.models.checkpoints.gguf_file import GgufFile
from mpcnet.models.checkpoints.gguf_tokenizer import tokenizer_of
from mpcnet.models.checkpoints.modules import INDEX, Modules, read_modules
from mpcnet.models.checkpoints.source import find, need, read_object, within
from mpcnet.models.checkpoints.tensors import Stored
from mpcnet.models.checkpoints.weight_files import stored_tensors, weights_path
from mpcnet.models.preprocessing import has_tokenizer

ORIGINAL = "copy them from the model that it was made of"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a model's files say. `modules.wrong` names what of it is not supported.

    gguf: the file of the weights, opened once, since its lists of words take seconds. tokenizer: the folder of one that
    was made of it, if no other is there.
    """

    source: str
    modules: Modules
    config: Mapping[str, Any] = field(repr=False)
    adapter: Adapter | None = None
    gguf: GgufFile | None = field(default=None, repr=False)
    tokenizer: Path | None = None

    @contextmanager
    def tensors(self) -> Iterator[dict[str, Stored]]:
        """All parameters by their own names, an adapter merged into them, readable inside the block.

        :raises LocalConfigError: a file is missing, damaged, or of an unknown kind.
        """
        held: AbstractContextManager[dict[str, Stored]]
        if self.adapter is not None:
            held = adapted_tensors(self.adapter)
        elif self.gguf is not None:
            held = nullcontext(self.gguf.tensors(self.config))
        else:
            held = stored_tensors(self.source, self.modules.folder)
        with held as stored:
            yield stored

    @property
    def weights(self) -> Path:
        """The file of the weights, or the index of its shards; a base model's, where there is an adapter.

        :raises LocalConfigError: see :func:`mpcnet.models.checkpoints.weight_files.weights_path`.
        """
        adapter = self.adapter
        return weights_path(
            *((self.source, self.modules.folder) if adapter is None else (adapter.base, adapter.folder))
        )

    @property
    def rewritten(self) -> bool:
        """Whether transformers does not read the files as they are."""
        return self.adapter is not None or self.weights.suffix in (".onnx", ".gguf")


def read_files(source: str) -> ModelFiles:
    """The files of a folder or hub name; no weight is read yet.

    :raises LocalConfigError: a file is missing or damaged, or two of them contradict each other.
    """
    modules = read_modules(source)
    adapter = read_adapter(source, modules.folder)
    if adapter is not None:
        modules.wrong += adapter.wrong
        if not modules.given and adapter.base != source and find(adapter.base, INDEX) is not None:
            modules.wrong.append(
                f"{INDEX}: want one beside the adapter, as its base {adapter.base} has one, got none; copy it, and the "
                "folders that it names"
            )
        found = ModelFiles(source, modules, base_config(adapter), adapter)
        return _compared(found)
    configuration = within(modules.folder, "config.json")
    if modules.wrong and find(source, configuration) is None:  # the first module is of another kind
        return ModelFiles(source, modules, {})
    _need_config(source, modules.folder)
    found = ModelFiles(source, modules, read_object(need(source, configuration)))
    return _compared(found)


def _need_config(source: str, folder: str) -> None:
    """:raises LocalConfigError: there are weights alone, as such files often come."""
    here = Path(source, folder)
    weights = sorted(path.name for path in here.glob("*") if path.suffix in (".gguf", ".onnx")) if here.is_dir() else []
    if weights and not (here / "config.json").is_file():
        raise LocalConfigError(
            f"{source}: want config.json and the tokenizer's files beside {weights[0]}, got no config.json; {ORIGINAL}"
        )


def _compared(files: ModelFiles) -> ModelFiles:
    """With its GGUF, which says some things too, and of pooling more than transformers' folders do."""
    modules, path = files.modules, files.weights
    if path.suffix != ".gguf":
        return files
    file, tokenizer, said = GgufFile.open(path), None, None
    try:
        modules.wrong += file.differences(files.config)
        said = file.pooling(files.config)
        if not (has_tokenizer(path.parent) or has_tokenizer(Path(files.source, modules.folder))):
            tokenizer = tokenizer_of(file, str(files.config.get("model_type")))
    except LocalConfigError as error:
        modules.wrong.append(str(error))
    if said and not modules.given:
        modules.pooling = (said,)
    elif said and modules.embeds and modules.pooling != (said,):
        modules.wrong.append(
            f"Pooling: want {said}, as {path.name} says, got {'+'.join(modules.pooling)}; take the same model's {INDEX}"
        )
    return replace(files, gguf=file, tokenizer=tokenizer)
