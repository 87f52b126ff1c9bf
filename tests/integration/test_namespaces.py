"""A host for each party: namespaces of their own, an address each, and no sight of the others' files."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from limits import PATIENT_S

from mpcnet.launch.deployment.certs import LISTENERS, ROLES
from mpcnet.launch.netem.networks import Hosts, make, why_not
from mpcnet.launch.simulation import processes
from mpcnet.launch.simulation.network import Network
from mpcnet.models.float_model import reference
from mpcnet.models.private.prepare import prepare, random_tokens
from mpcnet.transport.latency import Link

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not("veth") is not None, reason=why_not("veth") or "")]

MODEL = "bert-tiny"  # random weights, the same for all who ask for it
HIDE = 'while [ "$1" != -- ]; do mount -t tmpfs tmpfs "$1"; shift; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Apart:
    """Hosts that see, of all folders of a deployment, their own only."""

    hosts: Network
    folder: Path

    @property
    def name(self) -> str:
        return self.hosts.name

    @property
    def net(self) -> str:
        return self.hosts.net

    @property
    def addresses(self) -> Mapping[str, str]:
        return self.hosts.addresses

    def command(self, role: str, line: Sequence[str]) -> list[str]:
        hidden = [str(self.folder / other) for other in (*ROLES, "authority") if other != role]
        return self.hosts.command(role, ["unshare", "--mount", "sh", "-c", HIDE, "sh", *hidden, "--", *line])


def check_apart(made: processes.Deployment, hosts: Hosts) -> None:
    """Every listener is in its host's namespace, and finds other parties' folders empty."""
    assert len({os.readlink(place) for place in hosts.namespaces.values()}) == len(ROLES)
    for role in LISTENERS:
        process = Path(f"/proc/{made.running[role].pid}")
        assert os.readlink(process / "ns/net") == os.readlink(hosts.namespaces[role])
        folder = process / "root" / made.folder.relative_to("/")
        assert [other for other in (*ROLES, "authority") if os.listdir(folder / other)] == [role]


def test_a_private_request_between_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All five processes of `mpcnet`, from their own folders; the answer is the plain model's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepared = prepare(MODEL, "fast", "exact", 16)
    tokens = random_tokens(prepared.checkpoint, 2, 7)
    folder = tmp_path / "deployment"
    with make("veth", Link()) as hosts:
        assert isinstance(hosts, Hosts) and len(set(hosts.addresses.values())) == len(LISTENERS)
        with processes.deployment(prepared.config, Apart(hosts, folder), 1, PATIENT_S, folder) as made:
            made.start("dealer", "dealer")
            for role in ("server0", "server1"):
                made.start(role, "party")
            made.start("owner", "serve-model", "--once", "--model", MODEL)
            made.wait(["owner"])
            check_apart(made, hosts)
            asked, told = folder / "client" / "tokens.json", folder / "client" / "answers.json"
            asked.write_text(json.dumps([{name: getattr(tokens, name).tolist() for name in ("ids", "types", "mask")}]))
            made.start("client", "infer", "--model", MODEL, "--tokens", str(asked), "--json", str(told))
            made.wait(["client"])
            made.finish(["server0", "server1", "dealer"])
    (answer,) = json.loads(told.read_text())
    plain = reference.embed(prepared.config.shape, prepared.folded, tokens.ids, tokens.types, tokens.mask, "exact")
    private = torch.tensor(answer["values"], dtype=torch.float64)
    assert private.shape == plain.shape == (2, prepared.config.shape.hidden)
    assert torch.cosine_similarity(private, plain.double(), dim=1).min() > 0.999
