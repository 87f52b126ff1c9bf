"""Which of a model's files hold its weights: safetensors or PyTorch's own format, either in shards, ONNX, or GGUF.

They are looked for in transformers' order. What else lies in the folder is another form of the same weights, or what
training leaves behind; a file of weights that is neither is refused, since nobody reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints import onnx_file
from mpcnet.models.checkpoints.gguf_file import GgufFile
from mpcnet.models.checkpoints.plain_files import file_tensors
from mpcnet.models.checkpoints.source import find, find_object, is_below, need, read_object, within
from mpcnet.models.checkpoints.tensors import Stored

SAFE, TORCH = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"  # behind either name, of a checkpoint in shards
SHARDS = (".safetensors", ".bin")
GRAPHS = ("model.onnx", "onnx/model.onnx")  # as exporters name them
ADAPTER_SETTINGS, ADAPTER = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
WEIGHTS = (*SHARDS, ".pt", ".pth", ".ckpt", ".npz", ".pkl", ".pickle")
UNREAD = re.compile(  # by the names that transformers gives them: another form of the weights, and what training leaves
    r"pytorch_model(-\d+-of-\d+)?\.bin|openvino_model\.bin|training_args\.bin|(optimizer|scheduler|scaler)\.(pt|bin)|"
    r"rng_state(_\d+)?\.pth"
)


def has_weights(source: str, folder: str = "") -> bool:
    """Whether there are weights under a name that transformers gives them."""
    names = (SAFE, SAFE + INDEX, TORCH, TORCH + INDEX)
    return any(find(source, within(folder, name)) is not None for name in names)


def weights_path(source: str, folder: str = "") -> Path:
    """The file of the weights, or the index of its shards. `folder` is below the source.

    :raises LocalConfigError: there is none, there are several alike, or one of weights that nobody reads.
    """
    names = [within(folder, name) for name in (SAFE, SAFE + INDEX, TORCH, TORCH + INDEX, *GRAPHS)]
    path = next((path for name in names if (path := find(source, name)) is not None), None)
    here = Path(source, folder)
    if path is None:
        path = _only(here, ".onnx") or _only(here, ".gguf") or need(source, *names)
    if here.is_dir():
        refuse_unread(here, {path.name} | (set(_weight_map(path).values()) if path.name.endswith(INDEX) else set()))
    return path


def _only(folder: Path, suffix: str) -> Path | None:
    """The one file of a kind, whatever its name."""
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise LocalConfigError(f"{folder}: want one {suffix} file, got {names}; move all but one elsewhere")
    return found[0] if found else None


def refuse_unread(folder: Path, read: set[str]) -> None:
    """:raises LocalConfigError: there are weights in a folder beside those that are read, and no other form of them."""
    known = {*read, *(ADAPTER if (folder / ADAPTER_SETTINGS).is_file() else ())}
    for path in sorted(folder.iterdir()):
        if path.suffix in WEIGHTS and path.name not in known and not UNREAD.fullmatch(path.name) and path.is_file():
            raise LocalConfigError(
                f"{path}: want weights in {min(read)} alone, got this file beside it, which nobody reads; move it "
                "elsewhere if the model is whole without it"
            )


@contextmanager
def stored_tensors(source: str, folder: str = "") -> Iterator[dict[str, Stored]]:
    """All tensors of a model by the names that its own code gives them, readable inside the block.

    :raises LocalConfigError: there are no weights, a file of them is missing or damaged, or it is of an unknown kind.
    """
    path = weights_path(source, folder)
    with ExitStack() as stack:
        if path.suffix == ".onnx":
            yield onnx_file.tensors(path, beside(source, folder, path))
        elif path.suffix == ".gguf":
            yield GgufFile.open(path).tensors(find_object(source, within(folder, "config.json")))
        elif path.name.endswith(INDEX):
            yield _sharded(source, folder, path, stack)
        else:
            yield file_tensors(path, stack)


def beside(source: str, folder: str, graph: Path) -> Callable[[str], Path | None]:
    """What finds a file of a graph's data by its name."""
    inner = "onnx" if graph == find(source, within(folder, GRAPHS[1])) else ""
    return lambda name: find(source, within(folder, within(inner, name)))


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise LocalConfigError(f"{index}: want a weight_map of tensors and files, got none; fetch the model again")
    return weight_map


def _sharded(source: str, folder: str, index: Path, stack: ExitStack) -> dict[str, Stored]:
    weight_map = _weight_map(index)
    found: dict[str, Stored] = {}
    for name in sorted(set(weight_map.values())):
        path = find(source, within(folder, name)) if is_below(name) else None
        if path is None or path.suffix not in SHARDS:
            raise LocalConfigError(f"{index}: want all of its files beside it, got no {name}; fetch the model again")
        tensors = file_tensors(path, stack)
        if twice := found.keys() & tensors.keys():
            raise LocalConfigError(f"{path}: want each tensor in one file, got {min(twice)} in two")
        found |= tensors
    if other := found.keys() ^ weight_map.keys():
        where = "in a file alone" if min(other) in found else "in the index alone"
        raise LocalConfigError(
            f"{index}: want the tensors of its files, got {min(other)} {where}; fetch the model again"
        )
    return found
