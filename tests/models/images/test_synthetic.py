"""The images that models are calibrated on: the same ones each time, of every kind, none that no processor makes."""

import torch

from mpcnet.models.formats.calibration_batches import recipe
from mpcnet.models.image_shape import Image
from mpcnet.models.images.synthetic import synthetic_pictures, synthetic_rows

SMALL = Image(16, 4, (-1.0, -2.0, 0.0), (1.0, 3.0, 0.5))


def test_they_are_the_same_each_time() -> None:
    first, second = synthetic_rows(SMALL), synthetic_rows(SMALL)
    assert torch.equal(first, second)
    assert len(first) == len({row.numpy().tobytes() for row in first}) == 40
    assert first.shape[1:] == (SMALL.rows, SMALL.columns)


def test_they_reach_the_ends_and_do_not_pass_them() -> None:
    """In every channel."""
    pixels = synthetic_rows(SMALL)[:, 1:].reshape(-1, 16, 3, 16)
    for channel, (low, high) in enumerate(zip(SMALL.low, SMALL.high, strict=True)):
        seen = pixels[:, :, channel]
        assert float(seen.min()) == low and abs(float(seen.max()) - high) < 1e-6


def test_sizes_that_are_odd_or_tiny() -> None:
    for size, patch in ((3, 1), (5, 5), (9, 3)):
        assert torch.isfinite(synthetic_rows(Image(size, patch, (-1.0,), (1.0,)))).all()


def test_another_processor_is_another_calibration() -> None:
    other = Image(16, 4, (-1.0, -2.0, 0.0), (1.0, 3.0, 1.0))
    assert len({recipe(image=SMALL), recipe(image=other), recipe()}) == 3


def test_pictures_for_who_has_none() -> None:
    made = synthetic_pictures(SMALL, 3)
    assert len({picture.rgb().tobytes() for picture in made}) == 3
    assert [picture.rgb().size for picture in made] == [(16, 16)] * 3
