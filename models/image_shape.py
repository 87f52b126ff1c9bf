"""What is public of the images that a model takes: their size, their patches, and what their pixels lie between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.size_limits import MOST, MOST_CHANNELS, MOST_PIXEL


@dataclass(frozen=True, slots=True)
class Image:
    """What a model of images takes: squares of `size` by `size` pixels, cut into squares of `patch` by `patch`.

    low, high: what the pixels of each channel lie between, as the image processor makes them.
    registers: rows of the model's own between the class token's and those of patches (DINOv2 with registers).

    :raises LocalConfigError: a size is out of range, or patches do not fill an image.
    """

    size: int
    patch: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    registers: int = 0

    def __post_init__(self) -> None:
        ends = (self.low, self.high)
        if not all(type(x) is int and low <= x <= MOST for x, low in ((self.size, 1), (self.patch, 1))):
            raise LocalConfigError(f"image: want sizes of at least 1, got {self.size} and {self.patch}")
        if type(self.registers) is not int or not 0 <= self.registers <= MOST or self.size % self.patch:
            raise LocalConfigError(
                f"image: want whole patches and 0 or more registers, got images of {self.size} with patches of "
                f"{self.patch} and {self.registers!r} registers; let the image processor crop to a multiple"
            )
        known = all(type(end) is tuple and 1 <= len(end) <= MOST_CHANNELS for end in ends) and all(
            type(x) is float and abs(x) < MOST_PIXEL for end in ends for x in end
        )
        if not known or len(self.low) != len(self.high) or not all(a < b for a, b in zip(*ends, strict=True)):
            raise LocalConfigError(
                f"image: want two numbers within {MOST_PIXEL:g} of 0, the smaller first, of 1 to {MOST_CHANNELS} "
                f"channels, got {self.low} and {self.high}"
            )

    @property
    def columns(self) -> int:
        """Numbers of a patch."""
        return len(self.low) * self.patch**2

    @property
    def lead(self) -> int:
        """Rows before the first patch's."""
        return 1 + self.registers

    @property
    def rows(self) -> int:
        """Of the whole: the class token, the registers and the patches."""
        return self.lead + (self.size // self.patch) ** 2


def image_of(values: Any) -> Image:
    """The inverse of `asdict`.

    :raises LocalConfigError: it is none.
    """
    try:
        ends = {name: tuple(values[name]) for name in ("low", "high")}
        return Image(**{**values, **ends})
    except (TypeError, KeyError) as error:
        raise LocalConfigError(f"BERT shape: image: want sizes and ends of pixels, got {str(values)[:80]}") from error
