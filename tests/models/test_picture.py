"""Pictures: what is opened, what is refused, and that it is transformers' own way from a file to RGB."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image

from mpcnet.errors import LocalInputError
from mpcnet.models import picture
from mpcnet.models.picture import Picture, pictures_below


def noise(*size: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.webp", "d.bmp", "e.tiff", "f.ppm", "g.gif"])
@pytest.mark.parametrize("size", [(7, 5), (7, 5, 3), (7, 5, 4)])
def test_pixels_are_those_of_transformers(tmp_path: Path, name: str, size: tuple[int, ...]) -> None:
    made, path = noise(*size), tmp_path / name
    if name in ("b.jpg", "f.ppm") and len(size) == 3:
        made = made.convert("RGB")  # these have no transparency
    made.save(path)
    mine, theirs = Picture.of(path).rgb(), load_image(str(path))
    assert mine.mode == "RGB" and np.array_equal(np.asarray(mine), np.asarray(theirs))
    assert np.array_equal(np.asarray(Picture.of(Image.open(path)).rgb()), np.asarray(theirs))


def test_it_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    noise(4, 9, 3).save(tmp_path / "turned.jpg", exif=exif)
    assert Picture.of(tmp_path / "turned.jpg").rgb().size == (4, 9)


def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(40, 40, 3).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    frames = [noise(4, 4), noise(4, 4).rotate(90)]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    for name, content in {"cut.png": whole[:2000], "text.png": b"<html>", "empty.png": b"", "bytes.jpg": b"\xff\xd8\0" * 9,
                          "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"}.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    for name, words in {
        "cut.png": "want an image that Pillow reads, got image file is truncated",
        "text.png": r"want an image \(PNG, .*\), got another file; convert it",
        "empty.png": r"want an image \(PNG",
        "bytes.jpg": "want an image",
        "page.eps": r"want an image \(PNG",  # Pillow would start another program for it
        "none.png": "want an image's file, got none of this name",
        "moves.gif": "want an image that stands still, got one of 2 frames; save one of them",
        "": "want an image that Pillow reads, got .*Is a directory",
    }.items():
        with pytest.raises(LocalInputError, match=words) as caught:
            Picture.of(tmp_path / name).rgb()
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(picture, "MOST_PIXELS", 1599)
    for given in (tmp_path / "whole.png", Image.open(tmp_path / "whole.png")):
        with pytest.raises(LocalInputError, match="want an image of at most 1599 pixels, got 40 x 40; scale it down"):
            Picture.of(given).rgb()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Pillow tells it, from the size that a file's head says."""
    noise(40, 40).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(LocalInputError, match=r"want an image of at most \d+ pixels, got more; scale it down"):
        Picture.of(tmp_path / "large.png").rgb()


@pytest.mark.parametrize("given", [None, 7, b"bytes", ["a.png"], np.zeros((4, 4, 3), np.uint8)])
def test_another_object_is_refused(given: Any) -> None:
    with pytest.raises(LocalInputError, match="want a path or an image of Pillow's, got"):
        Picture.of(given)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(LocalInputError, match="want a folder of images"):
        pictures_below(tmp_path)
    (tmp_path / "below").mkdir()
    for name in ("b.PNG", "a.jpg", "below/c.webp", "notes.txt"):
        (tmp_path / name).touch()
    assert [Path(one.name).name for one in pictures_below(tmp_path)] == ["a.jpg", "b.PNG", "c.webp"]


def test_nothing_of_a_picture_is_in_its_repr() -> None:
    assert repr(Picture.of(noise(3, 3))) == "Picture(name='an image')"
