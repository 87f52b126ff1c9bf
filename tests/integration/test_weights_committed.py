"""The owner is bound to its weights, and makes its program where they are; the authority's host never sees them."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from parties import ALL, SHAPE, Parties, deployed, some_tokens, tiny
from small_models import save_embedding

from mpcnet.errors import LocalConfigError
from mpcnet.launch import cli
from mpcnet.launch.deployment import settings
from mpcnet.launch.deployment.certs import ROLES, role_folder
from mpcnet.launch.party import client_model, owner
from mpcnet.launch.party.node import open_node
from mpcnet.models.checkpoints.checkpoint import digest, random_checkpoint
from mpcnet.models.private import program
from mpcnet.models.private.commitment import SALT_FILE, check_weights, commit, new_salt, read_salt, write_salt
from mpcnet.models.private.prepare import checkpoint

TOKENS = some_tokens([5])
HOSTS = ("--server0", "10.0.0.1:4100", "--server1", "10.0.0.2:4100", "--dealer", "10.0.0.3:4100")


async def test_other_weights_of_the_same_shape(tmp_path: Path) -> None:
    """The owner says so in one line before it dials; the right ones are served."""
    model, salt = tiny(), new_salt()
    config = replace(model.config(), weights=commit(model.checkpoint.sha256, salt))
    with deployed(config, tmp_path / "deployment") as made:
        parties = Parties(made, model)
        with pytest.raises(LocalConfigError, match=r"owner: want weights\.salt in .*, got none; copy it here, or make"):
            await owner.main(parties.node("owner"), model.checkpoint, once=True)
        write_salt(salt, made.config("owner").parent)
        with pytest.raises(
            LocalConfigError, match=r"want the weights that program\.json commits to, got others of the"
        ):
            await owner.main(parties.node("owner"), random_checkpoint(SHAPE, 2), once=True)
        for role in ALL:
            parties.start(role)
        parties.start("owner")
        await parties.answered(TOKENS)
        await parties.stop()


async def test_a_program_without_a_commitment(tmp_path: Path) -> None:
    """Is served with a warning, unless the owner has the salt of another."""
    with deployed(tiny().config(), tmp_path / "deployment") as made:
        folder, sha256 = made.config("owner").parent, tiny().checkpoint.sha256
        assert "commits to no weights" in check_weights(tiny().config(), sha256, folder)
        write_salt(new_salt(), folder)
        with pytest.raises(LocalConfigError, match=r"program\.json commits to no weights: somebody made another"):
            check_weights(tiny().config(), sha256, folder)


async def test_all_agree_on_the_commitment(parties: Parties) -> None:
    parties.serve()
    path = parties.made.config("client").parent / "program.json"
    program.save(replace(program.read(path), weights="0" * 64), path)
    assert "weights: ours 0000000000000000, theirs" in await parties.refused(parties.ask(TOKENS))


def test_it_hides_and_binds(tmp_path: Path) -> None:
    sha256, salt = tiny().checkpoint.sha256, new_salt()
    assert commit(sha256, salt) == commit(sha256, salt) != commit(sha256, new_salt())
    assert commit("0" * 64, salt) != commit(sha256, salt)
    write_salt(salt, tmp_path)
    assert read_salt(tmp_path) == salt and (tmp_path / SALT_FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_salt(salt, tmp_path)
    (tmp_path / SALT_FILE).chmod(0o644)
    with pytest.raises(LocalConfigError, match=r"weights\.salt: want a file of its owner alone, got mode 0644"):
        read_salt(tmp_path)
    (tmp_path / SALT_FILE).chmod(0o600)
    for text in ("", "00", "x" * 64):
        (tmp_path / SALT_FILE).write_text(text)
        with pytest.raises(LocalConfigError, match="want 64 hex digits, got something else"):
            read_salt(tmp_path)


# --- who makes what ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mpcnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mpcnet", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


def test_init_of_the_owner_itself(mpcnet: Any, tmp_path: Path) -> None:
    model, folder = save_embedding(tmp_path / "model"), tmp_path / "deployment"
    assert mpcnet("init", folder, *HOSTS, "--model", model, "--length", 16) == 0
    assert [path.parent.name for path in folder.rglob(SALT_FILE)] == ["owner"]
    config = program.read(folder / "owner" / "program.json")
    assert check_weights(config, checkpoint(str(model)).sha256, folder / "owner") == ""


def test_program_here_and_deployment_there(mpcnet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the authority is given is public, and what it makes needs the owner's salt beside it, and nothing else."""
    model, out, folder = save_embedding(tmp_path / "model"), tmp_path / "program", tmp_path / "deployment"
    assert mpcnet("program", "--out", out, "--model", model, "--length", 16) == 0
    assert {path.name for path in out.iterdir()} == {"program.json", "tokenizer", SALT_FILE}
    assert "nobody else may have it" in capsys.readouterr().out
    salt = (out / SALT_FILE).read_text()
    (out / SALT_FILE).unlink()
    model.rename(tmp_path / "elsewhere")
    assert mpcnet("init", folder, *HOSTS, "--program", out / "program.json") == 0
    assert f"put your {SALT_FILE} into {folder}/owner" in capsys.readouterr().out
    assert not list(folder.rglob(SALT_FILE)) and not list(folder.rglob("*.safetensors"))
    digests = {program.digest(program.read(folder / role_folder(role) / "program.json")) for role in ROLES}
    assert digests == {program.digest(program.read(out / "program.json"))}
    assert client_model.reader(open_node(settings.read(folder / "client" / settings.FILE))) is not None
    (folder / "owner" / SALT_FILE).write_text(salt)
    (folder / "owner" / SALT_FILE).chmod(0o600)
    found, config = checkpoint(str(tmp_path / "elsewhere")), program.read(folder / "owner" / "program.json")
    assert found.sha256 == digest(found.tensors) and check_weights(config, found.sha256, folder / "owner") == ""


def test_what_does_not_go_together(mpcnet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out, folder = save_embedding(tmp_path / "model"), tmp_path / "program", tmp_path / "deployment"
    assert mpcnet("program", "--out", out, "--model", model, "--length", 16) == 0
    assert mpcnet("program", "--out", out, "--model", model) == LocalConfigError.exit_code
    assert mpcnet("init", folder, *HOSTS, "--program", out / "program.json", "--model", model) == 78
    assert "want --program alone, which says all of the model, got model too" in capsys.readouterr().err
    (out / "tokenizer" / "tokenizer_config.json").write_text("{}")
    assert mpcnet("init", folder, *HOSTS, "--program", out / "program.json") == 78
    assert "want the tokenizer of program.json, sha256" in capsys.readouterr().err
    assert not folder.exists()
    values = json.loads((out / "program.json").read_text()) | {"weights": "abc"}
    (out / "program.json").write_text(json.dumps(values))
    assert mpcnet("init", folder, *HOSTS, "--program", out / "program.json") == 78
    assert "weights: want 64 hex digits or null" in capsys.readouterr().err


def test_a_tokenizer_with_two_words_swapped(mpcnet: Any, tmp_path: Path) -> None:
    """The client's own, or one that somebody put into its folder: another answer would come, and nobody would know."""
    model, folder = save_embedding(tmp_path / "model"), tmp_path / "deployment"
    assert mpcnet("init", folder, *HOSTS, "--model", model, "--length", 16) == 0
    node = open_node(settings.read(folder / "client" / settings.FILE))
    path = folder / "client/tokenizer/tokenizer.json"
    document = json.loads(path.read_text())
    words = document["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]
    path.write_text(json.dumps(document))
    with pytest.raises(LocalConfigError, match=r"want the tokenizer of the program, sha256 .*, got "):
        client_model.reader(node)
