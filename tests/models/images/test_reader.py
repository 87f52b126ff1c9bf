"""From pictures to rows: a convolution's patches, the processor's pixels, and what a processor may make."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from image_models import SIDE, pixels_of, save_image_model
from PIL import Image as Pillow
from torch import Tensor
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.image_shape import Image
from mpcnet.models.images.reader import ImageReader, processed_image, reader_of, rows_of
from mpcnet.models.picture import Picture
from mpcnet.models.preprocessing import copy_tokenizer, tokenizer_digest
from mpcnet.models.texts.tokens import Reader, read_all

SMALL = Image(12, 4, (-1.0, -2.0), (1.0, 3.0), registers=2)


def some_pixels() -> Tensor:
    shades = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(4))
    return shades * torch.tensor([2.0, 5.0])[:, None, None] - torch.tensor([1.0, 2.0])[:, None, None]


def test_rows_times_a_kernel_are_a_convolution() -> None:
    kernel = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    rows = rows_of(SMALL, some_pixels())
    want = torch.nn.functional.conv2d(some_pixels()[None], kernel, stride=4)[0].flatten(1).T
    assert rows.shape == (12, 32) and SMALL.rows == 12
    assert (rows[:3] == 0).all()
    assert torch.allclose(rows[3:] @ kernel.flatten(1).T, want, atol=1e-5)
    assert torch.equal(pixels_of(SMALL, rows[None])[0], some_pixels())


def test_other_pixels_are_refused() -> None:
    with pytest.raises(LocalInputError, match=r"want 2 channels of 12 x 12, got \[2, 12, 8\]"):
        rows_of(SMALL, some_pixels()[..., :8])
    for wrong in (some_pixels() * 3, some_pixels() * torch.nan):
        with pytest.raises(LocalInputError, match="got some beyond its range"):
            rows_of(SMALL, wrong)


def test_the_reader_gives_the_processors_pixels(tmp_path: Path) -> None:
    found = load_checkpoint(save_image_model(tmp_path, "vit"))
    reader = reader_of(found.source, 17, found.preprocessing, found.shape)
    assert isinstance(reader, ImageReader) and reader.noun == "image"
    picture = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8))
    batch = read_all(reader, [Picture.of(picture), Picture.of(picture.rotate(90))])
    want = reader.tokenizer([picture, picture.rotate(90)], return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels_of(found.shape.image, batch.ids), want)
    assert batch.mask.shape == (2, 17) and bool(batch.mask.all())
    with pytest.raises(LocalInputError, match=r"image 1 of 1: want an image \(--image FILE\), .* got a text"):
        read_all(reader, ["a text"])
    with pytest.raises(LocalInputError, match="images: want at least one, got none"):
        read_all(reader, [])
    with pytest.raises(LocalConfigError, match="want a model of texts, got one of images"):
        Reader.of(found.source, 17, found.preprocessing, found.shape)


def test_the_ends_of_pixels_are_those_of_black_and_white(tmp_path: Path) -> None:
    """And the size is what is left of any picture, whatever it is resized to before."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    made = BitImageProcessorPil(
        size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}, image_mean=mean, image_std=std
    )
    made.save_pretrained(tmp_path)
    shape, low, high = processed_image(tmp_path)
    assert shape == (3, 16, 16)
    assert low == pytest.approx([-m / s for m, s in zip(mean, std, strict=True)], abs=1e-5)
    assert high == pytest.approx([(1 - m) / s for m, s in zip(mean, std, strict=True)], abs=1e-5)


def test_the_digest_is_of_the_processor(tmp_path: Path) -> None:
    """A copy has the same one, and loads; another mean is another answer."""
    folder = save_image_model(tmp_path / "model", "dinov2")
    copy_tokenizer(folder, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["config.json", "preprocessor_config.json"]
    assert tokenizer_digest(tmp_path / "copy") == tokenizer_digest(folder)
    assert processed_image(tmp_path / "copy") == processed_image(folder)
    (folder / "vocab.txt").write_text("a stray file")
    assert tokenizer_digest(tmp_path / "copy") == tokenizer_digest(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": [0.4, 0.5, 0.5]}))
    assert tokenizer_digest(tmp_path / "copy") != tokenizer_digest(folder)
    assert (
        load_checkpoint(folder).shape.image != load_checkpoint(save_image_model(tmp_path / "m", "dinov2")).shape.image
    )
    assert SIDE == 16
