"""Images that models of images are calibrated on, since none come with this project: made from a seed, of many kinds.

Flat colours, gradients, checkerboards and stripes, noise, spectra as photographs have them (power 1 / f^2), and discs
that cover each other, whose edges photographs have too. Each has the size that the model takes, and pixels between the
ends that its image processor keeps to, so there is nothing that a processor could not make.

Source   [Field87] for the spectra of photographs, [LeeMumford01] for discs ("dead leaves")
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mpcnet.models.image_shape import Image
from mpcnet.models.images.reader import rows_of
from mpcnet.models.picture import Picture

SEED = 0
RECIPE = 1  # raised when the images change
COLOURS = ((0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0.8, 0.6, 0.5))
SPECTRA = (0.5, 1.0, 1.0, 1.0, 1.5)  # powers of 1 / f of amplitudes; photographs have about 1
LEAVES, COUNT = 4, 120  # images of discs, and discs of each


def synthetic_rows(image: Image) -> Tensor:
    """The rows of all of them, float [count, n, columns]."""
    low, high = (torch.tensor(ends)[:, None, None] for ends in (image.low, image.high))
    return torch.stack([rows_of(image, low + (high - low) * made.clamp(0, 1)) for made in shades(image)])


def synthetic_pictures(image: Image, count: int) -> list[Picture]:
    """Pictures of discs, for who has none at hand."""
    from PIL import Image as Pillow

    generator, found = torch.Generator().manual_seed(SEED), []
    for number in range(1, count + 1):
        pixels = (_leaves(3, image.size, generator).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        found.append(Picture(f"coloured discs {number}", Pillow.fromarray(pixels.numpy())))
    return found


def shades(image: Image) -> Iterator[Tensor]:
    """Images [channels, size, size] from 0 to 1, or beyond, where they are cut."""
    generator = torch.Generator().manual_seed(SEED)
    channels, size = len(image.low), image.size
    line = torch.linspace(0, 1, size)

    def coloured(grey: Tensor, contrast: float = 1.0) -> Tensor:
        """In a colour of its own, between two shades."""
        tint = 1 - contrast * torch.rand(channels, 1, 1, generator=generator)
        return grey * tint

    for colour in COLOURS:
        yield torch.tensor([colour[c % 3] for c in range(channels)])[:, None, None].expand(channels, size, size)
    for ramp in (line[None].expand(size, size), line[:, None].expand(size, size), (line[:, None] - line[None]).abs()):
        yield ramp.expand(channels, size, size)
        yield coloured(ramp)
    place = torch.arange(size)
    for period in sorted({1, 2, max(image.patch // 2, 1), image.patch, 3 * image.patch}):
        rows, columns = place[:, None] // period, place[None] // period
        yield ((rows + columns) % 2).float().expand(channels, size, size)
        yield coloured((columns + 0 * rows) % 2 * 1.0)
    yield torch.rand(channels, size, size, generator=generator)
    yield torch.rand(1, size, size, generator=generator).expand(channels, size, size)
    yield torch.randint(0, 2, (channels, size, size), generator=generator).float()
    yield 0.5 + 0.1 * torch.randn(channels, size, size, generator=generator)
    for power in SPECTRA:
        grey = _spectrum(size, power, generator)
        yield grey.expand(channels, size, size)
        yield torch.stack([0.7 * grey + 0.3 * _spectrum(size, power, generator) for _ in range(channels)])
    for _ in range(LEAVES):
        yield _leaves(channels, size, generator)


def _spectrum(size: int, power: float, generator: torch.Generator) -> Tensor:
    """Noise whose amplitudes fall by a power of their frequency, with a mean of a half: [size, size]."""
    across, down = torch.fft.rfftfreq(size)[None], torch.fft.fftfreq(size)[:, None]
    frequency = (across.square() + down.square()).sqrt().clamp(min=1 / size)
    wave = torch.fft.rfft2(torch.randn(size, size, generator=generator)) / frequency**power
    made: Tensor = torch.fft.irfft2(wave, s=(size, size))
    return 0.5 + 0.25 * (made - made.mean()) / made.std().clamp(min=1e-6)


def _leaves(channels: int, size: int, generator: torch.Generator) -> Tensor:
    """Discs of many sizes and colours in front of each other, each with a little texture."""
    place = torch.arange(size).float()
    found = torch.rand(channels, 1, 1, generator=generator).expand(channels, size, size).clone()
    for _ in range(COUNT):
        radius, x, y = torch.rand(3, generator=generator).tolist()
        inside = (place[:, None] - y * size).square() + (place[None] - x * size).square()
        disc = inside < (size / (3 + 40 * radius)) ** 2
        colour = torch.rand(channels, 1, 1, generator=generator)
        texture = 0.05 * torch.randn(1, size, size, generator=generator)
        found = torch.where(disc, colour + texture, found)
    return found
