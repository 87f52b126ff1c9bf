"""Models of images, over TLS: files and pictures in, labels and vectors out, and what servers make of other uploads."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_models import save_image_model, small_images
from limits import LIMIT_S
from parties import SERVERS
from PIL import Image
from served import served
from typer.testing import CliRunner
from uploads import announce, mask_of, others, turned_away, uploads

import mpcnet
from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.launch.cli import app
from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.deployment.deploy import TOKENIZER
from mpcnet.launch.doctor.canary import ask_canary
from mpcnet.launch.party import frames
from mpcnet.launch.party.client import ask
from mpcnet.launch.party.client_model import reader
from mpcnet.launch.party.control_frames import SHARES
from mpcnet.launch.party.node import open_node
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.images.reader import ImageReader
from mpcnet.models.picture import Picture
from mpcnet.models.private.program import Plans, Size


def save_pictures(folder: Path) -> list[Path]:
    """A wide one, a tall one without colours, and one with transparency, which is larger than the model's."""
    draw, folder = np.random.default_rng(1), folder / "pictures"
    folder.mkdir()
    for name, size in (("wide.png", (9, 30, 3)), ("tall.jpg", (40, 11)), ("clear.png", (50, 60, 4))):
        Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    return [folder / name for name in ("wide.png", "tall.jpg", "clear.png")]


async def test_labels_of_images(tmp_path: Path) -> None:
    """Those of transformers, of files and of Pillow's images, in one request; the label alone; errors in their places."""
    folder = save_image_model(tmp_path / "model", "dinov2", 3, id2label={0: "cat", 1: "dog", 2: "hat"})
    paths = save_pictures(tmp_path)
    found = load_checkpoint(folder)
    want = published(found)([Picture.of(path) for path in paths]).softmax(1)
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with (
            asyncio.timeout(2 * LIMIT_S),
            mpcnet.AsyncClient.connect(parties.made.config("client")) as private,
        ):
            mine = await private.classify([str(paths[0]), paths[1], Image.open(paths[2])])
            got = torch.tensor([[*one.scores.values()] for one in mine])
            assert (got - want).abs().max() < 0.01
            assert [one.label for one in mine] == [("cat", "dog", "hat")[place] for place in want.argmax(1).tolist()]
            assert (await ask_canary(settings_file.read(parties.made.config("client")), LIMIT_S)).level == "ok"
            plans = Plans(parties.node("client").config)
            assert private.last.requests == 1
            assert private.last.rounds == plans.infer(Size(3, 17, audit=True)).ledger.total().rounds
            assert await private.labels(paths) == [one.label for one in mine]
            wrong = await private.classify([tmp_path / "no.png", paths[0], 7], on_error="return")  # type: ignore[list-item]
            assert str(wrong[0]) == "image 1: want an image's file, got none of this name"
            assert str(wrong[2]) == "image 3: want a path or an image of Pillow's, got int"
            for call, words in (
                (private.classify(paths[0]), "texts: want a list of texts or images, got PosixPath; put it in a list"),  # type: ignore[arg-type]
                (
                    private.embed(paths),
                    r"embed: want a model of embeddings, got a classifier of 3 label\(s\) of images",
                ),
            ):
                with pytest.raises(LocalInputError, match=words):
                    await call
        await parties.stop()
    assert parties.lost() == []


async def test_uploads_that_are_no_images(tmp_path: Path) -> None:
    """Each is refused by the server before it is asked anything of; what is none of its business is masked words."""
    folder = save_image_model(tmp_path / "model", "vit")
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        for role in SERVERS:
            await parties.said(role, "connected with")
        assert parties.model.checkpoint.shape.image is not None
        images = small_images(parties.model.checkpoint.shape.image)
        await parties.answered(images)
        for length in (16, 18):
            peer = await parties.node("client").dial("server0")
            await announce(peer, images, length=length)
            assert "length: want a whole number in 17 ... 17, got" in await turned_away(peer)
        padded = images.mask.clone()
        padded[1, 3] = 0
        one, two = uploads(parties, images)
        cases = (
            ([mask_of(padded), *one[1:]], "want images without padding, got some with"),
            ([one[0], one[1], *one[3:]], "want "),
        )
        for upload, words in cases:
            peer = await parties.node("client").dial("server0")
            await announce(peer, images)
            await frames.send(peer, SHARES, upload, **others(two))
            assert words in await turned_away(peer)
        far = replace(images, ids=images.ids * 1e5)
        with pytest.raises(LocalInputError, match="got some beyond its range"):
            await ask(parties.node("client"), far)
        await parties.answered(images)
        await parties.stop()
    assert parties.lost() == []


def test_what_is_refused_by_the_command_line(tmp_path: Path) -> None:
    """In one line, before any process starts."""
    folder, (path, *_) = save_image_model(tmp_path / "model", "vit", 2), save_pictures(tmp_path)
    (tmp_path / "page.png").write_text("<html>")
    for arguments, words in (
        (["a text"], r"text 1: want an image \(--image FILE\), since this is a model of images, got a text"),
        (["--image", str(tmp_path / "page.png")], "page.png: want an image (PNG, JPEG, "),
        (["--image", str(path), "a text"], "images: want --image alone, got texts too"),
        (["--image", str(path), "--length", "5"], "length: want 17, which every image has, got 5; leave it out"),
        (["--image", str(path), "--embedding", "client"], "embedding: want private of a model of images"),
        (["--image", str(tmp_path / "made")], "made: want an image's file, got none of this name"),
    ):
        failed = CliRunner().invoke(app, ["simulate", "--model", str(folder), *arguments])
        assert isinstance(failed.exception, (LocalInputError, LocalConfigError)), failed.exception
        assert words.replace("\\", "") in str(failed.exception)


def test_a_text_model_takes_no_image(tmp_path: Path) -> None:
    from small_models import save_embedding

    model = save_embedding(tmp_path / "model")
    failed = CliRunner().invoke(app, ["simulate", "--model", str(model), "--image", str(save_pictures(tmp_path)[0])])
    assert "want a text: this is a model of texts; got an image" in str(failed.exception)


async def test_another_processor_is_refused(tmp_path: Path) -> None:
    """A client's is the program's, by its digest: other pixels would be another answer."""
    folder, paths = save_image_model(tmp_path / "model", "vit"), save_pictures(tmp_path)
    with served(folder, tmp_path / "made") as parties:
        mine = parties.made.config("client").parent / TOKENIZER / "preprocessor_config.json"
        mine.write_text(json.dumps(json.loads(mine.read_text()) | {"image_mean": [0.4, 0.4, 0.4]}))
        parties.serve()
        async with mpcnet.AsyncClient.connect(parties.made.config("client")) as private:
            with pytest.raises(LocalConfigError, match="want the image processor of the program, sha256"):
                await private.embed(paths)
        await parties.stop()


@pytest.mark.slow
def test_processes(tmp_path: Path) -> None:
    """Through five processes, by the command: vectors beside transformers' own, at the planned cost."""
    folder, paths = save_image_model(tmp_path / "model", "dinov2_with_registers"), save_pictures(tmp_path)
    document = tmp_path / "out.json"
    images = [argument for path in paths[:2] for argument in ("--image", str(path))]
    done = CliRunner().invoke(app, ["simulate", "--model", str(folder), *images, "--json", str(document)])
    assert done.exit_code == 0, done.output
    found = json.loads(document.read_text())
    assert found["min_cosine"] > 0.9999 and found["sentences"] == 2
    assert "wide.png" in done.output


def test_calibration_on_a_folder(tmp_path: Path) -> None:
    """By each command that has it; `ranges` says of the same images that they are like those."""
    model, folder = save_image_model(tmp_path / "model", "vit", 2), save_pictures(tmp_path)[0].parent

    def run(*arguments: str) -> dict[str, object]:
        done = CliRunner().invoke(app, [*arguments, "--model", str(model)])
        assert done.exit_code == 0, (done.output, done.exception)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    made = run("calibrate", "--texts", str(folder), "--json", "-")
    assert (made["own"], made["rows"], made["longest"]) == (3, 43, 17)
    assert str(run("ranges", "--file", str(folder), "--json", "-")["alike"]).startswith("yes: all 3")
    planned = run("plan", "--calibrate-on", str(folder), "--json")
    assert (planned["length"], planned["batch"]) == (17, 1)
    failed = CliRunner().invoke(app, ["calibrate", "--model", str(model), "--texts", str(tmp_path / "model")])
    assert "want a folder of images" in str(failed.exception)
    (folder / "broken.png").write_text("no")
    failed = CliRunner().invoke(app, ["calibrate", "--model", str(model), "--texts", str(folder)])
    assert "broken.png: want an image" in str(failed.exception)


def test_a_deployment_has_the_image_processor(tmp_path: Path) -> None:
    """Clients get it in the place of a tokenizer; what is dealt ahead has the length of an image."""
    model, made = save_image_model(tmp_path / "model", "vit", 2), tmp_path / "made"
    hosts = ["--server0", "127.0.0.1:4100", "--server1", "127.0.0.1:4101", "--dealer", "127.0.0.1:4102"]
    done = CliRunner().invoke(app, ["init", str(made), *hosts, "--model", str(model)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert (made / "client" / TOKENIZER / "preprocessor_config.json").is_file()
    node = open_node(settings_file.read(made / "client" / "party.toml"))
    assert isinstance(reader(node), ImageReader)
    settings = settings_file.read(made / "server0" / "party.toml")
    with pytest.raises(LocalConfigError, match='ahead: want rows of an image as "1x17", got "1x16"'):
        open_node(replace(settings, ahead_sizes=(Size(1, 16),)))
    assert open_node(replace(settings, ahead_sizes=(Size(1, 17),))).config.shape.image is not None
