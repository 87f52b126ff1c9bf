"""`mpcnet init`: what each host gets, and that the parties it describes answer a request."""

import asyncio
import sys
from pathlib import Path

import pytest
import torch
from integration.parties import tiny

from launch import cli, client, dealer, owner, party, settings
from launch.certs import ROLES
from launch.deploy import write_deployment
from launch.network import LISTENERS, free_addresses
from launch.node import Node, open_node
from models import program
from models.prepare import random_tokens


def test_deployment_answers(tmp_path: Path) -> None:
    """Every role starts from its own folder, and from nothing else."""
    model, folder = tiny(), tmp_path / "deployment"
    addresses = dict(zip(LISTENERS, free_addresses(3), strict=True))
    write_deployment(folder, model.config(), addresses, timeout_s=20)
    nodes = {role: open_node(settings.read(folder / role / settings.FILE)) for role in ROLES}
    tokens = random_tokens(model.checkpoint, 2, 7)

    async def ask(node: Node) -> torch.Tensor:
        return (await client.ask(node, tokens)).values

    async def run() -> torch.Tensor:
        serving = [party.main(nodes[role], 1) for role in ("server0", "server1")]
        ended = await asyncio.gather(
            *serving, dealer.main(nodes["dealer"]), owner.main(nodes["owner"], model.checkpoint), ask(nodes["client"])
        )
        assert ended[:4] == [0, 0, 0, 0]
        return ended[4]

    values = asyncio.run(run())
    assert (values - model.plain(tokens)).abs().max() < 0.03


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deployment"
    hosts = {"--server0": "10.0.0.1:4100", "--server1": "10.0.0.2:4100", "--dealer": "10.0.0.3:4100"}
    arguments = [word for pair in hosts.items() for word in pair]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["mpcnet", "init", str(folder), *arguments, "--model", "bert-tiny"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    assert "mpcnet dealer" in capsys.readouterr().out
    assert len({program.agreement(program.read(folder / role / "program.json")).digest for role in ROLES}) == 1
    for role in ROLES:
        assert (folder / role / "key.pem").stat().st_mode & 0o777 == 0o600
        assert settings.read(folder / role / settings.FILE).addresses["dealer"] == "10.0.0.3:4100"
    assert {path.name for path in folder.iterdir()} == {*ROLES, "authority"}
