"""JSON that somebody else wrote: a value, or one ValueError; and what every reader of such a file makes of it."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import small_models
from hypothesis import given
from hypothesis import strategies as st
from parties import tiny

from mpcnet import checked_json
from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.launch.deployment.certs import create_deployment
from mpcnet.launch.reporting import jsonlines, report
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.formats import calibrate, calibrated
from mpcnet.models.formats.calibrated import Coverage, Kept
from mpcnet.models.private import program
from mpcnet.models.texts import inputs
from mpcnet.transport.identity import Roster

BAD = {
    "nested": "[" * 100_000 + "]" * 100_000,
    "nested a little": '{"a": ' + "[" * 70 + "]" * 70 + "}",
    "infinite": '{"a": 1e999}',
    "long": '{"a": 1' + "0" * 400 + "}",
    "longer": '{"a": ' + "9" * 10_000 + "}",
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": -Infinity}',
    "twice": '{"a": 1, "a": 2}',
    "half a character": '{"a": "\\uD800"}',
    "not UTF-8": b'{"a": "\xff"}',
    "a list": "[]",
    "nothing": "",
    "null": "null",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_no_mapping(text: str | bytes) -> None:
    for given_ in (text, text if isinstance(text, bytes) else text.encode()):
        with pytest.raises(ValueError, match=r"^[^\n]{3,100}$"):
            checked_json.mapping(given_)


@given(st.binary(max_size=40) | st.text(max_size=40) | JSON.map(json.dumps))
def test_a_value_that_can_be_written_again_or_a_reason(text: str | bytes) -> None:
    try:
        value = checked_json.parse(text)
    except ValueError:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


def test_good_ones() -> None:
    text = '{"a": [1, -0.5, 1e-999, true, null, "\\ud83d\\ude00"], "b": {"a": 1000000000000000019884624838656}}'
    assert checked_json.mapping(text) == json.loads(text)


# --- those who read ---------------------------------------------------------------------------------------------------


def read_program(path: Path) -> None:
    program.read(path)


def read_roster(path: Path) -> None:
    Roster.load(path)


def read_calibration(path: Path) -> None:
    calibrated.read(path, tiny().calibration.weights_sha256)


def read_texts(path: Path) -> None:
    inputs.entries([], path.rename(path.with_suffix(".jsonl")), None, None)


def read_lines(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")
    jsonlines.load(path, lambda row: int(row["a"]["b"]))


def read_report(path: Path) -> None:
    """What a server sends; the client adds up its numbers."""
    try:
        found = report.read(path.read_bytes())
    except ValueError as error:
        raise LocalConfigError(str(error)) from None
    assert found["rounds"] + found["sent_bytes"] + sum(found["dealt_bytes"]) + found["seconds_queued"] >= 0


@cache
def documents() -> dict[str, Any]:
    with TemporaryDirectory() as name:
        path = Path(name)
        create_deployment(path, ["server0", "client"])
        roster = json.loads((path / "server0/roster.json").read_text())
        calibrate.save(tiny().calibration, path / "file")
        calibration = json.loads((path / "file").read_text())
        calibrated.write(Kept(tiny().calibration, Coverage(16, "x")), path / "file")
        calibration = json.loads((path / "file").read_text())
    cost = {"rounds": 1, "sent_bytes": 2, "received_bytes": 2, "dealt_bytes": [3, 4], "seconds_queued": 0.5}
    return {
        "program": json.loads(json.dumps(program.to_dict(tiny().config()))),
        "roster": roster,
        "calibration": calibration,
        "texts": {"text": "a", "text_pair": "b"},
        "lines": {"a": {"b": 1}},
        "report": cost | {"operations": []},
    }


READERS: dict[str, Callable[[Path], None]] = {
    "program": read_program,
    "roster": read_roster,
    "calibration": read_calibration,
    "texts": read_texts,
    "lines": read_lines,
    "report": read_report,
}


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(value, dict):
        for key, child in value.items():
            yield from places(child, (*above, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from places(child, (*above, index))


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    found = copy.deepcopy(document)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return found


def refused_or_read(read: Callable[[Path], None], text: str | bytes) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "file.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            read(path)
        except (LocalConfigError, LocalInputError) as error:
            assert "\n" not in str(error) and len(str(error)) <= 1000


@pytest.mark.parametrize("what", READERS)
@given(data=st.data())
def test_one_value_in_a_good_document(what: str, data: st.DataObject) -> None:
    document = documents()[what]
    place = data.draw(st.sampled_from(list(places(document))))
    refused_or_read(READERS[what], json.dumps(changed(document, place, data.draw(JSON))))


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_bad_files(what: str, text: str | bytes) -> None:
    refused_or_read(READERS[what], text)


@pytest.mark.parametrize("what", ["program", "roster", "calibration"])
def test_good_documents_are_read(what: str, tmp_path: Path) -> None:
    """So what is refused above is refused for its one change."""
    path = tmp_path / "file"
    path.write_text(json.dumps(documents()[what]))
    READERS[what](path)


# --- a checkpoint's files ---------------------------------------------------------------------------------------------

FILES = {
    "config.json": ("model_type", "architectures", "hidden_size", "id2label", "hidden_act", "layer_norm_eps"),
    "modules.json": (),
    "1_Pooling/config.json": ("pooling_mode", "word_embedding_dimension", "include_prompt"),
    "sentence_bert_config.json": ("max_seq_length", "do_lower_case", "transformer_task", "model_kwargs"),
    "config_sentence_transformers.json": ("prompts", "default_prompt_name", "model_type", "truncate_dim"),
    "tokenizer_config.json": ("model_max_length",),
}
VALUES = ("[]", '{"a": []}', "[[]]", '""', "-1", "1" + "0" * 200, "1e300", "null", "true", "1e999", "[" * 9999)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_models.save_embedding(tmp_path_factory.mktemp("model"))
    small_models.layout(folder, "Normalize")
    return folder


@pytest.mark.parametrize("name", FILES)
def test_files_of_a_checkpoint(model: Path, name: str) -> None:
    path = model / name
    former = path.read_bytes() if path.exists() else None
    texts = [text if isinstance(text, bytes) else text.encode() for text in BAD.values()]
    for key in FILES[name]:
        base = json.dumps(json.loads(former) if former else {})[1:-1]
        texts += [("{" + ", ".join(filter(None, (base, f'"{key}": {value}'))) + "}").encode() for value in VALUES]
    if name == "modules.json":
        texts += [f'[{{"type": {value}, "path": {value}}}]'.encode() for value in VALUES]
    try:
        path.parent.mkdir(exist_ok=True)
        for text in texts:
            path.write_bytes(text)
            try:
                load_checkpoint(model)
            except LocalConfigError as error:
                assert "\n" not in str(error)
    finally:
        path.write_bytes(former) if former is not None else path.unlink()
