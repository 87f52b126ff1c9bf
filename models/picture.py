"""A picture as people give it, a file or an image of Pillow's, made into RGB as transformers' pipelines do.

A file is opened by Pillow's readers of common formats alone. What is larger than Pillow takes for harmless, moves, or
is cut off is refused before an image processor sees it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcnet.errors import LocalInputError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # Pillow has others, some of which run other programs
MOST_PIXELS = 89_478_485  # above which Pillow warns of decompression bombs: a quarter of a GiB as RGB
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What was given; `name` is how people know it."""

    name: str
    given: Any = field(repr=False)  # a path, or a PIL.Image.Image

    @classmethod
    def of(cls, given: object) -> Picture:
        """A path, or an image of Pillow's.

        :raises LocalInputError: it is neither.
        """
        if isinstance(given, Picture):
            return given
        if isinstance(given, (str, Path)):
            return cls(str(given), Path(given))
        from PIL import Image

        if not isinstance(given, Image.Image):
            raise LocalInputError(f"want a path or an image of Pillow's, got {type(given).__name__}")
        return cls(str(getattr(given, "filename", "") or "an image"), given)

    def rgb(self) -> Any:
        """The picture in RGB, turned as its EXIF says.

        :raises LocalInputError: it is no image that Pillow reads, too large, animated, or cut off.
        """
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # an error below
                image = Image.open(self.given, formats=FORMATS) if isinstance(self.given, Path) else self.given
            if image.width * image.height > MOST_PIXELS:
                raise LocalInputError(
                    f"want an image of at most {MOST_PIXELS} pixels, got {image.width} x {image.height}; scale it down"
                )
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise LocalInputError(f"want an image that stands still, got one of {frames} frames; save one of them")
            return ImageOps.exif_transpose(image).convert("RGB")
        except FileNotFoundError as error:
            raise LocalInputError("want an image's file, got none of this name") from error
        except Image.DecompressionBombError as error:
            raise LocalInputError(f"want an image of at most {MOST_PIXELS} pixels, got more; scale it down") from error
        except UnidentifiedImageError as error:
            raise LocalInputError(f"want an image ({', '.join(FORMATS)}), got another file; convert it") from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's readers raise
            raise LocalInputError(f"want an image that Pillow reads, got {error or type(error).__name__}") from error


def pictures_below(folder: Path) -> list[Picture]:
    """The image files of a folder, by their names; those below it too.

    :raises LocalInputError: there is none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise LocalInputError(f"{folder}: want a folder of images ({', '.join(SUFFIXES)}), got none in it")
    return [Picture.of(path) for path in found]
