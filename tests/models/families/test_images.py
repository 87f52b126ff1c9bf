"""Models of images: the float model is transformers', and the private one is the float model, at its planned cost."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from image_models import KINDS, SIDE, save_image_model, small_image_model, small_images, transformers_answer
from private import Private, audit, private_model
from torch import Tensor

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.families import FAMILIES
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import classify, forward
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.formats.calibration_batches import built_in_batches
from mpcnet.models.images.reader import image_batch
from mpcnet.models.preprocessing import IMAGES
from mpcnet.models.private.known_answer import known_answer
from mpcnet.models.private.program import Size
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Tokens

HALVES = {"size": {"height": SIDE // 2, "width": SIDE // 2}}


@cache
def small(kind: str, labels: int = 0, half: bool = False, **more: Any) -> tuple[Checkpoint, Tokens, Tensor]:
    """A model, images for it, and transformers' answer: [batch, n, hidden] or [batch, labels]."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = small_image_model(folder, kind, labels, processor=HALVES if half else None, **more)
        assert found.shape.image is not None
        images = small_images(found.shape.image)
        return found, images, transformers_answer(folder, found, images)


def hidden(found: Checkpoint, images: Tokens) -> Tensor:
    return forward(found.shape, fold(found), images.ids, images.types, images.mask)


@pytest.mark.parametrize("kind", KINDS)
def test_float_model_is_transformers(kind: str) -> None:
    found, images, want = small(kind)
    assert (hidden(found, images) - want).abs().max() < 1e-6  # layer scales are multiplied in single precision
    assert want.std() > 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_classifier_is_transformers(kind: str) -> None:
    found, images, want = small(kind, 3)
    got = classify(found.shape, fold(found), images.ids, images.types, images.mask)
    assert (got - want).abs().max() < 1e-6
    assert want.std() > 0.1


@pytest.mark.parametrize("kind", ["dinov2", "dinov2_with_registers"])
def test_positions_for_the_processors_size_are_transformers(kind: str) -> None:
    """Published DINOv2 has positions for images of 518, and a processor that crops to 224."""
    found, images, want = small(kind, half=True)
    assert found.shape.image is not None
    assert found.shape.image.size == SIDE // 2
    assert (hidden(found, images) - want).abs().max() < 1e-6


@pytest.mark.parametrize(("kind", "more"), [("dinov2", {"use_swiglu_ffn": True}), ("vit", {"qkv_bias": False})])
def test_what_else_families_may_have(kind: str, more: dict[str, Any]) -> None:
    found, images, want = small(kind, **more)
    assert (hidden(found, images) - want).abs().max() < 1e-6
    assert found.shape.gated == ("use_swiglu_ffn" in more)


@cache
def private(kind: str, labels: int = 0, suite: str = "fast", **more: Any) -> Private:
    found = small(kind, labels, **more)[0]
    return private_model(found, built_in_batches(found, found.shape.positions), suite, "exact")


@pytest.mark.parametrize("kind", KINDS)
def test_private_is_float(kind: str) -> None:
    """`run` also checks rounds and bytes, offline and online, against the plan."""
    result, whole, floats = private(kind).run(small(kind)[1])
    assert torch.cosine_similarity(result, floats).min() > 0.9998
    assert (result - whole).abs().max() < 0.02
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_private_classifier_is_float(kind: str) -> None:
    model, images = private(kind, 3), small(kind, 3)[1]
    result, _, floats = model.run(images)
    assert (result - floats).abs().max() < 0.02
    chosen, _, _ = model.run(images, "label")
    assert torch.equal(chosen.abs().argmax(1), floats.argmax(1))  # -1 is 1 in a ring of one bit


def test_a_gated_one_in_another_suite() -> None:
    more = {"use_swiglu_ffn": True}
    result, _, floats = private("dinov2", suite="secformer", **more).run(small("dinov2", **more)[1])
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_flagged_of_what_was_calibrated(kind: str) -> None:
    values, flagged, _ = audit(private(kind), small(kind)[1])
    assert flagged == [False] * len(values)


def test_patches_take_one_round() -> None:
    """And six bytes for each number of a patch; no row that is none is opened."""
    model = private("dinov2_with_registers")
    image, operations = model.config.shape.image, model.plans.infer(Size(2, model.config.shape.positions)).ledger
    assert image is not None
    cost = operations.operations["embedding"]
    assert cost.rounds == 1
    assert cost.sent_bytes - 2 * (image.rows - image.lead) * image.columns * 6 in range(100)  # a frame's header
    assert max(cost.dealt_bytes) >= 2 * (image.rows - image.lead) * model.config.shape.hidden * 6


def test_classifiers_take_one_round() -> None:
    model = private("dinov2", 3)
    cost = model.plans.infer(Size(2, model.config.shape.positions)).ledger.operations["classifier"]
    assert cost.rounds == 1
    assert cost.sent_bytes - 2 * 2 * 32 * 6 in range(100)


def test_rows_before_the_patches_are_nobodys() -> None:
    """Whatever a client shares in the place of the class token and registers, the model's own rows stand there."""
    images = small("dinov2_with_registers")[1]
    other = image_batch(images.ids.clone())
    other.ids[:, :3] = 7.0
    model = private("dinov2_with_registers")
    first, second = (model.run(each, floats=False)[1] for each in (images, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold(kind: str) -> None:
    """No value exceeds what is proved, of the images of the calibration or of noise between the ends of pixels."""
    found, images, _ = small(kind, 3)
    image, folded = found.shape.image, fold(found)
    assert image is not None
    noise = torch.rand(8, *images.ids.shape[1:], generator=torch.Generator().manual_seed(1)).round()
    proved = bounds(found.shape, folded)
    batches = [images, image_batch(2 * noise - 1)]
    seen = calibrate(found.shape, folded, batches, found.sha256).ranges["exact"]
    for site, most in proved.sizes.items():
        if site != "logits":  # of which differences are bounded
            assert seen[site].absmax <= most, site
    for site, (least, most) in proved.square_sums.items():
        assert least <= seen[site].min and seen[site].max <= most, site
    for i, heads in enumerate(proved.scores):
        for head, most in enumerate(heads):
            assert seen[f"layer{i}.head{head}.scores"].absmax <= most


def test_the_bound_of_patches_is_reached() -> None:
    """By the picture of a column's signs; so the bound is none that only holds because it is wide."""
    found, _, _ = small("vit")
    image, folded = found.shape.image, fold(found)
    assert image is not None
    weight, places = folded["patch.weight"], folded["embedding.position"][image.lead :]
    column = int((weight.abs().sum(0) + places.abs().amax(0)).argmax())
    signs = torch.sign(weight[:, column])
    value = float(signs @ weight[:, column] + places[:, column].abs().max())
    assert bounds(found.shape, folded).sizes["embedding.centred"] < 1.02 * value


def test_families_are_those_that_have_an_image_processor() -> None:
    assert {kind for kind, family in FAMILIES.items() if family.table == "patch"} == set(IMAGES) == set(KINDS)


def test_descriptions_go_round() -> None:
    for kind in KINDS:
        shape = small(kind)[0].shape
        assert BertShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape
    assert "image" not in BertShape(layers=1, hidden=8, heads=2, ffn=16).to_dict()
    for wrong in ({"size": 16}, {"size": 17, "patch": 4, "low": [0.0], "high": [1.0]}, [1], "x"):
        with pytest.raises(LocalConfigError, match="image"):
            BertShape.from_dict(shape.to_dict() | {"image": wrong})
    for wrong_shape in ({"positions": 18}, {"types": 2}, {"norm": "after"}, {"windows": (2, 2)}, {"vocab": 3}):
        with pytest.raises(LocalConfigError, match=r"image|positions"):
            replace(shape, **wrong_shape)  # type: ignore[arg-type]


def test_programs_tell_each_other_apart() -> None:
    """What a release computes with a program of images is part of what parties compare."""
    model = private("dinov2", 3)
    shape = replace(model.config.shape, pooling="cls")
    answers = {known_answer(model.config), known_answer(replace(model.config, shape=shape))}
    assert len(answers) == 2


@pytest.mark.parametrize(
    ("kind", "more", "processor", "says"),
    [
        ("vit", {"image_size": [16, 24]}, {}, "image_size: want squares, got"),
        (
            "vit",
            {"patch_size": 5},
            {},
            "want whole patches and 0 or more registers, got images of 16 with patches of 5",
        ),
        ("vit", {"hidden_act": "mish"}, {}, "hidden_act: want gelu, .*, got mish"),
        ("vit", {}, {"size": {"height": 8, "width": 8}}, r"want images of \[3, 16, 16\], .* got \[3, 8, 8\]"),
        ("dinov2", {}, {"size": {"height": 8, "width": 16}}, r"want images of \[3, 16, 16\], .* got \[3, 8, 16\]"),
        ("vit", {"num_channels": 1}, {}, "num_channels: want 3, got 1; take a model of RGB images"),
        ("vit", {"image_size": "x"}, {}, "want"),
        ("vit", {}, {"size": {"height": 10**6, "width": 16}}, "want images of at most 2048 pixels a side, got 1000000"),
        ("dinov2", {}, {"size": {"shortest_edge": 16}}, "want images of one size, got"),
        ("dinov2", {}, {"size": {"height": 9, "width": 9}}, "want whole patches .* got images of 9"),
        ("vit", {}, {"do_rescale": False, "do_normalize": False}, "want two numbers within 64 of 0"),
        ("vit", {}, {"image_processor_type": "OwnImageProcessor"}, "want an image processor that runs here"),
        ("vit", {"architectures": ["ViTForMaskedImageModeling"]}, {}, "want ViTModel or its head for images, got"),
    ],
)
def test_other_images_are_refused(
    tmp_path: Path, kind: str, more: dict[str, Any], processor: dict[str, Any], says: str
) -> None:
    save_image_model(tmp_path, kind)
    for name, changes in (("config.json", more), ("preprocessor_config.json", processor)):
        path = tmp_path / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(LocalConfigError, match=says):
        load_checkpoint(tmp_path)


def test_an_older_processors_file_is_read(tmp_path: Path) -> None:
    """As google/vit-base-patch16-224 was first published: no class, and a number for a size."""
    save_image_model(tmp_path, "vit")
    older = {"do_normalize": True, "do_resize": True, "resample": 2, "size": SIDE}
    older |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(older))
    image = load_checkpoint(tmp_path).shape.image
    assert image is not None
    assert (image.size, image.low, image.high) == (SIDE, (-1.0,) * 3, (1.0,) * 3)


def test_a_model_without_its_processor_is_refused(tmp_path: Path) -> None:
    save_image_model(tmp_path, "vit")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(
        LocalConfigError, match=r"want preprocessor_config\.json, as models of images have it, got none"
    ):
        load_checkpoint(tmp_path)


def test_graphs_and_adapters_are_refused(tmp_path: Path) -> None:
    """Positions have no names in a graph."""
    save_image_model(tmp_path, "dinov2")
    (tmp_path / "model.safetensors").rename(tmp_path / "model.onnx")
    with pytest.raises(LocalConfigError, match=r"want safetensors .* of a model of images, got model\.onnx"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.onnx").rename(tmp_path / "model.safetensors")
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path), "r": 2, "target_modules": ["query"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(LocalConfigError, match="adapter"):
        load_checkpoint(tmp_path)


def test_what_is_no_row_of_an_image_is_refused() -> None:
    found, images, _ = small("vit")
    folded, ones = fold(found), images.mask
    for rows, mask in ((images.ids[:, 1:], ones[:, 1:]), (images.ids[..., 1:], ones), (images.ids, ones * 0)):
        with pytest.raises(LocalInputError, match=r"want .* rows of pixels without padding"):
            forward(found.shape, folded, rows, images.types, mask)
    with pytest.raises(LocalInputError, match="got some beyond its range"):
        forward(found.shape, folded, images.ids * 1.1, images.types, ones)


@pytest.mark.parametrize(("factor", "frac", "error"), [(1000, 12, 0.02), (10_000, 9, 0.1)])
def test_a_residual_beyond_4096(factor: int, frac: int, error: float) -> None:
    """It begins with fewer fraction bits, and so has the map of patches: their product leaves it the same ring."""
    found, images, _ = small("vit")
    tensors = {name: value * (factor if name.endswith("down.weight") else 1) for name, value in found.tensors.items()}
    model = private_model(replace(found, tensors=tensors, sha256=f"grown {factor}"), [images], "fast", "exact")
    assert model.config.formats.stream_frac == frac
    result, whole, floats = model.run(images)
    assert torch.cosine_similarity(result, floats).min() > 0.9999
    assert (result - floats).abs().max() < error and (result - whole).abs().max() < error
