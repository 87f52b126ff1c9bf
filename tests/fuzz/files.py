"""Files that a party reads: the program, the roster, settings, a calibration, a model's weights and configuration.

Each is read whole, or refused with a `LocalConfigError`; the operator learns what to do, and no traceback.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import pickle
import random
import shutil
import struct
import tempfile
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment import settings
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.checkpoints.tensors import floats
from mpcnet.models.checkpoints.weight_files import stored_tensors
from mpcnet.models.formats import calibrate
from mpcnet.models.private import program
from mpcnet.transport.identity import Roster
from tests.cluster import plain
from tests.fuzz.mutate import changed_bytes, changed_value, deep, strange

DIGEST = "0" * 64


def folder() -> Path:
    """In memory where that is possible; gone with this process."""
    shm = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="mpcnet-fuzz-", dir=shm if shm.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@dataclass
class File:
    """A reader of one file, and what of a valid one is changed."""

    name: str
    path: Path
    read: Callable[[Path], Any]
    make: Callable[[random.Random], bytes]

    def cases(self, draw: random.Random, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield self.make(draw)

    def check(self, case: bytes) -> str:
        self.path.write_bytes(case)
        try:
            self.read(self.path)
        except LocalConfigError as error:
            assert str(error), "an error that says nothing"
            return "refused"
        return "read"


def _json(valid: Any) -> Callable[[random.Random], bytes]:
    text = json.dumps(valid, indent=1).encode()

    def make(draw: random.Random) -> bytes:
        how = draw.random()
        if how < 0.3:
            return changed_bytes(draw, text)
        if how < 0.31:
            return deep(draw, b'{"version":[', b"]}")
        value = valid
        for _ in range(1 + int(3 * draw.random() ** 3)):
            value = changed_value(draw, value)
        return json.dumps(value, default=str).encode("utf-8", "surrogatepass")

    return make


def _toml(text: str) -> Callable[[random.Random], bytes]:
    lines = text.splitlines()

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.3:
            return changed_bytes(draw, text.encode())
        if draw.random() < 0.01:
            return b"role = " + deep(draw, b"[", b"]")
        found = list(lines)
        for _ in range(1 + int(3 * draw.random() ** 3)):
            at = draw.randrange(len(found))
            key, equals, value = found[at].partition(" = ")
            if not equals:
                continue
            old = tomllib.loads(f"x = {value}")["x"] if _is_toml(value) else value
            new = changed_value(draw, old) if draw.random() < 0.7 else strange(draw)
            found[at] = f"{key} = {_toml_value(new)}"
        return "\n".join(found).encode("utf-8", "surrogatepass")

    return make


def _is_toml(value: str) -> bool:
    try:
        tomllib.loads(f"x = {value}")
    except ValueError:
        return False
    return True


def _toml_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return json.dumps(value) if isinstance(value, str) else str(value)


def _safetensors() -> Callable[[random.Random], bytes]:
    valid = save_tensors({"a": torch.ones(2, 3), "b.weight": torch.zeros(4, dtype=torch.float16)})
    (length,) = struct.unpack_from("<Q", valid)
    header, rest = json.loads(valid[8 : 8 + length]), valid[8 + length :]

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return changed_bytes(draw, valid)
        text = json.dumps(changed_value(draw, header), default=str).encode("utf-8", "surrogatepass")
        if draw.random() < 0.02:
            text = deep(draw, b'{"a":', b"}")
        size = len(text) if draw.random() < 0.9 else draw.choice((0, 1, 2**31, 2**63 - 1, len(text) + 8))
        return struct.pack("<Q", size) + text + rest

    return make


EXECUTED: list[str] = []  # what a pickle has called: nothing


def executed(*given: Any) -> str:
    """What a hostile pickle would call."""
    EXECUTED.append(repr(given))
    return "x"


class _Calls:
    """Its pickle calls a function when it is loaded."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


def _torch_save() -> Callable[[random.Random], bytes]:
    """Files of torch.save, of both kinds: changed anywhere, in their pickle, or with a pickle that calls functions."""
    tensors = {"a": torch.ones(2, 3), "b.weight": torch.zeros(4, dtype=torch.float16)}
    valid = [_saved(tensors, new=new) for new in (True, False)]
    members = {name: zipfile.ZipFile(io.BytesIO(valid[0])).read(name) for name in _names(valid[0])}
    (inner,) = (name for name in members if name.endswith("/data.pkl"))
    calls = (executed, eval, exec, os.system, print, open, __import__, getattr, Path, bytearray, torch.load)
    words = ("1", "raise SystemExit", "touch executed", "/dev/null", "os")

    def hostile(draw: random.Random) -> Any:
        call = _Calls(draw.choice(calls), *(draw.choice(words) for _ in range(draw.randrange(3))))
        return draw.choice((call, {"a": call}, {"state_dict": {"a": call}}, {**tensors, "c": call}, [call], {call: 1}))

    def make(draw: random.Random) -> bytes:
        how = draw.random()
        if how < 0.3:
            return changed_bytes(draw, draw.choice(valid))
        if how < 0.4:
            return pickle.dumps(hostile(draw), protocol=draw.randrange(6))
        if how < 0.5:
            return _saved(hostile(draw), new=draw.random() < 0.5)
        text = changed_bytes(draw, members[inner]) if how < 0.9 else pickle.dumps(hostile(draw), protocol=2)
        if draw.random() < 0.05:
            text = b"\x80\x02" + deep(draw, b"(", b"t") + b"."
        return _archive(members | {inner: text})

    return make


def _saved(value: Any, *, new: bool) -> bytes:
    memory = io.BytesIO()
    torch.save(value, memory, _use_new_zipfile_serialization=new)
    return memory.getvalue()


def _names(archive: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(archive)).namelist()


def _archive(members: Mapping[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return memory.getvalue()


def _read_pickle(path: Path) -> None:
    """Whatever comes of it, nothing was called."""
    try:
        with warnings.catch_warnings(action="ignore"):
            _read_tensors(path)
    finally:
        assert not EXECUTED, f"a pickle has called a function: {EXECUTED}"


def _read_program(path: Path) -> None:
    """What is read is what would be written, and can be shown to peers."""
    config = program.read(path)
    program.agreement(config)
    program.save(config, path)
    assert program.read(path) == config


def _read_tensors(path: Path) -> None:
    with stored_tensors(str(path.parent)) as stored:
        floats(stored, {name: name for name in stored})


def program_file() -> File:
    from parties import tiny  # tests/support

    valid = program.to_dict(tiny(labels=3).config())
    return File("program", folder() / "program.json", _read_program, _json(valid))


def roster_file() -> File:
    roles = {role: list(pins) for role, pins in plain.roster("server0", "dealer").fingerprints.items()}
    return File("roster", folder() / "roster.json", Roster.load, _json({"version": 2, "roles": roles}))


def settings_file() -> File:
    where = folder()
    made = settings.Settings(
        folder=where, role="server0", addresses={role: f"10.0.0.{n}:4100" for n, role in enumerate(("server0", "server1", "dealer"))},
        ahead=("1x128", "8x32"), net="rtt=40ms,bw=100mbps",
    )  # fmt: skip
    path = settings.write(made)
    return File("settings", path, settings.read, _toml(path.read_text()))


def calibration_file() -> File:
    path = folder() / "calibration.json"
    ranges = {
        softmax: {"layer0/x": [-1.5, 2.5, 7], "layer0/y": [0.0, 1.0, 3]} for softmax in ("exact", "2quad", "2relu")
    }
    known = calibrate.Calibration(
        DIGEST, 8, 64, {softmax: {site: calibrate.Range(*row) for site, row in rows.items()} for softmax, rows in ranges.items()}
    )  # fmt: skip
    calibrate.save(known, path)
    return File("calibration", path, lambda path: calibrate.load(path, DIGEST), _json(json.loads(path.read_text())))


def tensors_file() -> File:
    return File("tensors", folder() / "model.safetensors", _read_tensors, _safetensors())


def pickle_file() -> File:
    return File("pickle", folder() / "pytorch_model.bin", _read_pickle, _torch_save())


def model_config() -> File:
    """A model's config.json, beside weights that fit it."""
    from small_models import save_weights  # tests/support

    where = folder()
    save_weights(where, hidden_size=4, num_attention_heads=1, intermediate_size=4, max_position_embeddings=4)
    path = where / "config.json"
    return File("config", path, lambda path: load_checkpoint(path.parent), _json(json.loads(path.read_text())))


def adapter_settings() -> File:
    """An adapter's settings, beside its matrices and its base: whatever name it has, nobody is asked for it."""
    from exported import save_adapter  # tests/support
    from small_models import save_weights

    where = folder()
    save_weights(where)
    save_adapter(where, where)
    path = where / "adapter_config.json"
    return File("adapter", path, lambda path: load_checkpoint(path.parent), _json(json.loads(path.read_text())))
