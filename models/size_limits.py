"""How large what is public of a model may be: or a typing error costs an hour of planning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

MOST_BASE, MOST_PLACES = 1e12, 1 << 19  # of RoPE, whose angles are then exact enough in words of 64 bits
MOST_DISTANCES, MOST_FARTHEST = 1024, 1 << 15  # of DeBERTa, whose rows take a second to number then
MOST_CHANNELS, MOST_PIXEL = 16, 64.0  # of an image, and of a pixel's value: 12 bits behind the point leave it 48 in all
MOST, MOST_LAYERS = 1 << 24, 1024  # of any size, and of layers: far above any encoder; products of two sizes fit a word


def wrong_sizes(values: Mapping[str, object], least: Mapping[str, int], most: Mapping[str, int]) -> Iterator[str]:
    """Which of these are no whole numbers between the two."""
    whole = {name: value for name, value in values.items() if type(value) is int}
    for name, value in values.items():
        if name not in whole or whole[name] < least[name]:
            yield f"{name}: want a whole number of at least {least[name]}, got {value!r}"
    for name, number in whole.items():
        if number > most[name]:
            yield f"{name}: want at most {most[name]}, got {number}"
