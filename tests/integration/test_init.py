"""`mpcnet init`: what each host gets, and that the parties it describes answer a request."""

import asyncio
import sys
from pathlib import Path

import pytest
import torch
from limits import PATIENT_S
from parties import ALICE, SERVERS, Tiny, tiny
from sentences import save_encoder, save_modules

from mpcnet.launch import cli
from mpcnet.launch.deployment import settings
from mpcnet.launch.deployment.certs import LISTENERS, ROLES, role_folder
from mpcnet.launch.deployment.deploy import write_deployment
from mpcnet.launch.party import client, dealer, owner, party
from mpcnet.launch.party.node import Node, open_node
from mpcnet.launch.simulation.network import free_addresses
from mpcnet.models.head_shape import Dense
from mpcnet.models.preprocessing import tokenizer_digest
from mpcnet.models.private import program
from mpcnet.models.private.prepare import random_tokens


@pytest.mark.parametrize(
    ("listeners", "model"),
    [(LISTENERS, tiny()), (SERVERS, tiny()), (LISTENERS, tiny(pooling="max+cls", dense=(Dense(9, "tanh"),)))],
    ids=["dealer listens", "dealer dials", "pooling and a dense map"],
)
def test_deployment_answers(tmp_path: Path, listeners: tuple[str, ...], model: Tiny) -> None:
    """Every role starts from its own folder, and from nothing else."""
    folder = tmp_path / "deployment"
    addresses = dict(zip(listeners, free_addresses(len(listeners)), strict=True))
    write_deployment(folder, model.config(), addresses, [ALICE], timeout_s=PATIENT_S)
    folders = {role: folder / role_folder(role) for role in (*ROLES, ALICE)}
    nodes = {role: open_node(settings.read(place / settings.FILE)) for role, place in folders.items()}
    tokens = random_tokens(model.checkpoint, 2, 7)

    async def ask(node: Node) -> torch.Tensor:
        return (await client.ask(node, tokens)).values

    async def run() -> list[torch.Tensor]:
        serving = [party.main(nodes[role]) for role in SERVERS]
        ends = asyncio.gather(
            *serving, dealer.main(nodes["dealer"]), owner.main(nodes["owner"], model.checkpoint, once=True)
        )
        answers = [await ask(nodes[role]) for role in ("client", ALICE)]
        for node in nodes.values():
            node.stopping.set()
        assert await ends == [0, 0, 0, 0]
        return answers

    for values in asyncio.run(run()):
        model.check(tokens, values)


def init(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str, model: str = "bert-tiny") -> None:
    """`mpcnet init`, with random weights of a small shape if no model is named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    monkeypatch.setattr(sys, "argv", ["mpcnet", "init", str(folder), *arguments, "--model", model])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)


HOSTS = ("--server0", "10.0.0.1:4100", "--server1", "10.0.0.2:4100")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deployment"
    init(monkeypatch, folder, *HOSTS, "--dealer", "10.0.0.3:4100")
    assert "mpcnet dealer" in capsys.readouterr().out
    assert len({program.agreement(program.read(folder / role / "program.json")).digest for role in ROLES}) == 1
    for role in ROLES:
        assert (folder / role / "key.pem").stat().st_mode & 0o777 == 0o600
        assert settings.read(folder / role / settings.FILE).addresses["dealer"] == "10.0.0.3:4100"
    assert {path.name for path in folder.iterdir()} == {*ROLES, "authority"}


def test_more_clients_and_a_dealer_without_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deployment"
    init(monkeypatch, folder, *HOSTS, "--client", "alice", "--client", "bob", "--monitor-port", "9100")
    clients = {"client:alice": "client-alice", "client:bob": "client-bob"}
    assert {path.name for path in folder.iterdir()} == {*ROLES, *clients.values(), "authority"}
    for role, name in clients.items():
        found = settings.read(folder / name / settings.FILE)
        assert (found.role, found.monitor_port, set(found.addresses)) == (role, 9100, set(SERVERS))


def test_clients_get_the_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody else; the program holds its digest, and where texts are cut."""
    source, folder = tmp_path / "model", tmp_path / "deployment"
    save_encoder(source / "0_Transformer")
    save_modules(source, ("Normalize", None))
    modules = (source / "modules.json").read_text().replace('"path": "",', '"path": "0_Transformer",')
    (source / "modules.json").write_text(modules)
    init(monkeypatch, folder, *HOSTS, "--client", "alice", "--length", "16", model=str(source))
    config = program.read(folder / "server0" / "program.json")
    assert config.preprocessing is not None
    assert (config.preprocessing.max_tokens, config.preprocessing.normalize) == (24, True)
    assert sorted(path.parent.name for path in folder.glob("*/tokenizer")) == ["client", "client-alice"]
    for role in ("client", "client-alice"):
        assert tokenizer_digest(folder / role / "tokenizer") == config.preprocessing.tokenizer_sha256
        assert not list((folder / role / "tokenizer").glob("*.safetensors"))
    owner_sees = program.agreement(config).settings["texts.tokenizer_sha256"]
    assert owner_sees == config.preprocessing.tokenizer_sha256


def test_labels_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(monkeypatch, tmp_path / "deployment", *HOSTS, "--answers", "label", model="builtin:sentiment")
    assert program.read(tmp_path / "deployment" / "client" / "program.json").answers == ("label",)
