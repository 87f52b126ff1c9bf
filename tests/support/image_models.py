"""Small models of images of each family as transformers saves them, and images for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from encoders import train
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.image_shape import Image
from mpcnet.models.images.reader import image_batch
from mpcnet.models.images.synthetic import synthetic_rows
from mpcnet.models.texts.tokens import Tokens

SIDE, PATCH = 16, 4
SIZES: Mapping[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": PATCH,
}  # fmt: skip
MORE: Mapping[str, Mapping[str, Any]] = {
    "vit": {"intermediate_size": 48},
    "dinov2": {"mlp_ratio": 2},
    "dinov2_with_registers": {"mlp_ratio": 2, "num_register_tokens": 2},
}
KINDS = tuple(MORE)


def save_image_model(
    folder: Path, kind: str, labels: int = 0, seed: int = 3, processor: Mapping[str, Any] | None = None, **more: Any
) -> Path:
    """An encoder, or a classifier of some labels, with a processor that resizes to SIDE by SIDE unless it says more."""
    sizes = {**SIZES, **MORE[kind], **more, **({"num_labels": labels} if labels else {})}
    torch.manual_seed(seed)
    model = (AutoModelForImageClassification if labels else AutoModel).from_config(AutoConfig.for_model(kind, **sizes))
    train(model)
    model.save_pretrained(folder)
    ViTImageProcessorPil(**{"size": {"height": SIDE, "width": SIDE}, **(processor or {})}).save_pretrained(folder)
    return folder


def small_images(image: Image, *rows: int) -> Tokens:
    """Some of the images that a model is calibrated on; three without a choice."""
    return image_batch(synthetic_rows(image)[list(rows or (5, 24, 38))])


def transformers_answer(folder: Path, found: Checkpoint, images: Tokens) -> Tensor:
    """Hidden states or logits of transformers' own model, in float64, of the same pixels."""
    kind = AutoModelForImageClassification if found.shape.labels else AutoModel
    model = kind.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.inference_mode():
        output = model(pixel_values=pixels_of(found.shape.image, images.ids).double())
    answer: Tensor = output.logits if found.shape.labels else output.last_hidden_state
    return answer


def pixels_of(image: Image | None, rows: Tensor) -> Tensor:
    """Rows put together again: [batch, channels, size, size]."""
    assert image is not None
    count, channels, patch = image.size // image.patch, len(image.low), image.patch
    cut = rows[:, image.lead :].reshape(-1, count, count, channels, patch, patch)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, image.size, image.size)


def small_image_model(folder: Path, kind: str, labels: int = 0, **more: Any) -> Checkpoint:
    return load_checkpoint(save_image_model(folder, kind, labels, **more))
