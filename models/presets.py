"""Published shapes by name: what commands measure without a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from mpcnet.errors import LocalConfigError
from mpcnet.models.image_shape import Image
from mpcnet.models.shape import BertShape

PRESETS: Mapping[str, BertShape] = {
    "bert-base": BertShape(layers=12, hidden=768, heads=12, ffn=3072),
    "bert-large": BertShape(layers=24, hidden=1024, heads=16, ffn=4096),
    "bert-tiny": BertShape(layers=2, hidden=128, heads=2, ffn=512),
    "minilm-l6": BertShape(layers=6, hidden=384, heads=12, ffn=1536),
    "vit-base": BertShape(
        layers=12,
        hidden=768,
        heads=12,
        ffn=3072,
        vocab=0,
        positions=197,
        types=0,
        pooling="cls",
        norm="before",
        image=Image(224, 16, (-1.0,) * 3, (1.0,) * 3),
    ),
}


def preset(name: str) -> BertShape:
    """A published shape by name.

    :raises LocalConfigError: no preset has this name.
    """
    if name not in PRESETS:
        raise LocalConfigError(f"BERT shape: want one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
