"""Pictures to rows of pixels with the model's own image processor: the one place that does it.

Runs at the client: pixels are secret, the number of images and their size are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.image_shape import Image
from mpcnet.models.picture import Picture
from mpcnet.models.preprocessing import PROCESSOR, SAVE_PROCESSOR, Preprocessing
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Given, Reader, Row, Tokens

MOST_SIDE = 2048  # pixels that a processor resizes or crops to
TRIED = (61, 83)  # height and width of the pictures that tell what a processor makes


@dataclass(frozen=True, slots=True)
class ImageReader(Reader):
    """A :class:`Reader` of pictures. Its `tokenizer` is transformers' image processor, of Pillow."""

    @property
    def noun(self) -> str:
        """See :class:`Reader`."""
        return "image"

    def row(self, text: Given) -> Row:
        """One picture's rows: zeros for the class token and registers, then a row of pixels for each patch.

        :raises LocalInputError: it is no picture, or none that can be read.
        """
        shape = self.shape
        assert shape is not None and shape.image is not None
        if not isinstance(text, Picture):
            raise LocalInputError("want an image (--image FILE), since this is a model of images, got a text")
        pixels = _processed(self.tokenizer, text.rgb())
        zeros = [0] * shape.image.rows
        return Row(zeros, zeros, pixels=rows_of(shape.image, pixels))

    def asked(self, text: Given) -> Row:
        """:meth:`row`."""
        return self.row(text)

    def pad(self, rows: Sequence[Row], length: int = 0) -> Tokens:
        """The rows as a batch; images have no padding."""
        return image_batch(torch.stack([row.pixels for row in rows if row.pixels is not None]))


def image_batch(rows: Tensor) -> Tokens:
    """Rows of images, [batch, n, columns], with the types and the mask that they all have."""
    ones = torch.ones(rows.shape[:2], dtype=torch.int64)
    return Tokens(rows, torch.zeros_like(ones), ones)


def rows_of(image: Image, pixels: Tensor) -> Tensor:
    """Pixels [channels, size, size] as patches, row after row, behind zeros for what is no patch: [n, columns].

    The numbers of a patch are in the order of a convolution's kernel.

    :raises LocalInputError: they are not of this size, or outside of their range.
    """
    channels, count, patch = len(image.low), image.size // image.patch, image.patch
    if tuple(pixels.shape) != (channels, image.size, image.size):
        want = f"{channels} channels of {image.size} x {image.size}"
        raise LocalInputError(f"pixels: want {want}, got {list(pixels.shape)}; take the model's own image processor")
    low, high = (torch.tensor(ends)[:, None, None] for ends in (image.low, image.high))
    if not bool(((pixels >= low - 1e-5) & (pixels <= high + 1e-5)).all()):
        raise LocalInputError("pixels: want those of the program's image processor, got some beyond its range")
    cut = pixels.reshape(channels, count, patch, count, patch).permute(1, 3, 0, 2, 4).reshape(count**2, image.columns)
    return torch.nn.functional.pad(cut, (0, 0, image.lead, 0))


def load_processor(folder: str | Path) -> Any:
    """The model's own image processor, as transformers computes it with Pillow: the same numbers on every host.

    :raises LocalConfigError: there is none, or none that runs here.
    """
    import PIL  # noqa: F401  # an extra: without it transformers says less well what is missing
    from transformers import AutoImageProcessor  # two seconds to import: only who reads images waits for it

    path = Path(folder, PROCESSOR)
    if not path.is_file():
        raise LocalConfigError(f"{folder}: want {PROCESSOR}, as models of images have it, got none; {SAVE_PROCESSOR}")
    try:
        return AutoImageProcessor.from_pretrained(
            str(folder), backend="pil", local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a damaged file, or a class that is not here
        said = next(iter(str(error).strip().splitlines()), "")
        raise LocalConfigError(
            f"{path}: want an image processor that runs here, got {type(error).__name__}: {said}; {SAVE_PROCESSOR}"
        ) from error


def processed_image(folder: str | Path) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """What a processor makes of any picture: its shape [channels, height, width], and what its pixels lie between.

    Pixels are resized as bytes and then scaled, channel by channel, so a black and a white picture have the ends.

    :raises LocalConfigError: it cannot be loaded or run, or makes images of different sizes.
    """
    from PIL import Image as Pillow

    processor, height, width = load_processor(folder), *TRIED
    sides = [side for name in ("size", "crop_size", "pad_size") for side in _sides(getattr(processor, name, None))]
    if wide := [side for side in sides if side > MOST_SIDE]:  # before it makes such a picture
        raise LocalConfigError(
            f"{folder}: {PROCESSOR}: want images of at most {MOST_SIDE} pixels a side, got {wide[0]}"
        )
    pictures = [Pillow.new("RGB", size, colour) for colour in ("black", "white") for size in ((width, height), TRIED)]
    try:
        found = [_processed(processor, picture) for picture in pictures]
    except LocalInputError as error:
        raise LocalConfigError(f"{folder}: {PROCESSOR}: {error}") from error
    sizes = {tuple(pixels.shape) for pixels in found}
    if len(sizes) > 1 or len(found[0].shape) != 3:
        made = " and ".join(str(list(size)) for size in sorted(sizes))
        raise LocalConfigError(
            f"{folder}: {PROCESSOR}: want images of one size, got {made}; resize both sides, or crop to a square"
        )
    ends = torch.stack([pixels.flatten(1).double() for pixels in found])
    return min(sizes), tuple(ends.amin((0, 2)).tolist()), tuple(ends.amax((0, 2)).tolist())


def _sides(given: Any) -> list[int]:
    """The numbers of a processor's size."""
    values = given.values() if isinstance(given, Mapping) else getattr(given, "__dict__", {}).values()
    return [value for value in values if isinstance(value, int)]


def _processed(processor: Any, picture: Any) -> Tensor:
    try:
        pixels = processor(picture, return_tensors="pt")["pixel_values"][0]
    except Exception as error:  # what numpy and Pillow raise of sizes that cannot be
        raise LocalInputError(
            f"want a picture that the image processor takes, got its {type(error).__name__}"
        ) from None
    found: Tensor = pixels.float()
    return found


def reader_of(
    folder: str | Path, limit: int, preprocessing: Preprocessing | None = None, shape: BertShape | None = None
) -> Reader:
    """What makes tokens of texts, or rows of pictures, as the model takes them.

    :raises LocalConfigError: there is no tokenizer or image processor in the folder, or none that runs here.
    """
    if shape is None or shape.image is None:
        return Reader.of(folder, limit, preprocessing, shape)
    return ImageReader(load_processor(folder), limit, preprocessing, shape)
