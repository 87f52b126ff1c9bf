"""Descriptions of models: as JSON and back, by name, and all that makes no sense of one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from private import TINY

from mpcnet.errors import LocalConfigError
from mpcnet.models.head_shape import Dense
from mpcnet.models.presets import PRESETS, preset
from mpcnet.models.shape import BertShape

SHAPE = BertShape(layers=2, hidden=8, heads=2, ffn=16, vocab=50, positions=32)


def test_shape_round_trip_and_presets() -> None:
    assert BertShape.from_dict(json.loads(json.dumps(SHAPE.to_dict()))) == SHAPE
    assert set(PRESETS) == {"bert-base", "bert-large", "bert-tiny", "minilm-l6", "vit-base"}
    assert preset("bert-large").head_dim == 64
    with pytest.raises(LocalConfigError, match="bert-huge"):
        preset("bert-huge")


def test_shape_names_all_that_is_wrong() -> None:
    with pytest.raises(LocalConfigError) as caught:
        BertShape(layers=0, hidden=8, heads=2, ffn=True, eps=0.0, labels=2)
    assert all(word in str(caught.value) for word in ("layers", "ffn", "eps", "labels"))
    with pytest.raises(LocalConfigError, match="divisor of hidden = 8, got 3"):
        replace(SHAPE, heads=3)
    with pytest.raises(LocalConfigError, match=r"missing fields \['vocab'\], unknown \['size'\]"):
        BertShape.from_dict({("size" if k == "vocab" else k): v for k, v in SHAPE.to_dict().items()})


def test_shapes_that_make_no_sense() -> None:
    for changes, says in (
        ({"pooling": "median"}, "pooling kinds, 0"),
        ({"pooling": "mean+first"}, "pooling kinds, 0"),
        ({"layers": 1025}, "layers: want at most 1024, got 1025"),
        ({"vocab": 1 << 25}, "vocab: want at most 16777216, got 33554432"),
        ({"pooled_from": -1}, "pooled_from: want a whole number of at least 0"),
        ({"dense": (Dense(4, "relu"),)}, "dense: want columns and tanh or identity"),  # type: ignore[arg-type]
        ({"dense": (Dense(4, "identity"), Dense(4, "tanh"))}, "as one, got two"),
        ({"multi_label": True}, "multi_label: want a classifier"),
        ({"head": "classification", "labels": 2, "pooling": "first", "pooled_from": 1}, "want none of classification"),
    ):  # fmt: skip
        with pytest.raises(LocalConfigError, match=says):
            replace(TINY, **changes)  # type: ignore[arg-type]
    with pytest.raises(LocalConfigError, match="dense: want columns and activation"):
        BertShape.from_dict(TINY.to_dict() | {"dense": [{"columns": 3}]})
