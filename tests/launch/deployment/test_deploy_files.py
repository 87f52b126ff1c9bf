"""deploy/: every command that the files name exists and takes these options, and no party sees another's folder."""

import configparser
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from limits import LIMIT_S

from mpcnet.launch import cli
from mpcnet.launch.deployment.settings import FILE
from mpcnet.launch.party.monitor import HOST, Metrics, Monitor

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PARTIES = ("server0", "server1", "dealer", "replica0", "replica1")
INSTANCES = ("party", "dealer", "serve-model", "replica")
README = (DEPLOY / "README.md").read_text()


def parses(line: list[str]) -> Any:
    """The context of the command `mpcnet LINE`; fails if it does not exist or does not take these options."""
    commands = typer.main.get_command(cli.app).commands
    assert line[0] in commands, line
    return commands[line[0]].make_context(line[0], line[1:])


def given(text: str) -> str:
    """As compose reads it when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


# --- compose --------------------------------------------------------------------------------------------------


def test_services() -> None:
    assert set(SERVICES) == {*PARTIES, "owner", "client"}
    optional = {name: service["profiles"] for name, service in SERVICES.items() if service.get("profiles")}
    assert optional == {name: [name] for name in ("client", "replica0", "replica1")}
    assert all(f"--profile {name}" in README for name in ("replica0", "replica1"))


@pytest.mark.parametrize("name", SERVICES)
def test_own_folder_only(name: str) -> None:
    mounts = {mount["target"]: mount for mount in SERVICES[name]["volumes"]}
    assert all(mount["read_only"] and not mount["bind"]["create_host_path"] for mount in mounts.values())
    assert given(mounts.pop("/etc/mpcnet")["source"]) == f"./deployment/{name}"
    others = {target: given(mount["source"]) for target, mount in mounts.items()}
    wanted = {"owner": {"/model": "./model"}, "client": {"/tokenizer": "./tokenizer"}}
    assert others == wanted.get(name, {})


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert not {"ports", "network_mode", "privileged", "pid", "ipc", "devices", "cap_add", "environment"} & set(service)
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"] and service["ulimits"] == {"core": 0}
    assert int(given(service["user"]).partition(":")[0]) > 0
    assert service["networks"] == ["parties"] and COMPOSE["networks"]["parties"]["internal"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_container_command(name: str) -> None:
    service = SERVICES[name]
    line = [
        *service.get("entrypoint", ["mpcnet"]),
        *service.get("command", []),
        *(["A text."] if name == "client" else []),
    ]
    assert line.pop(0) == "mpcnet"
    wanted = {"dealer": "dealer", "owner": "serve-model", "client": "infer"}
    wanted |= {"server0": "party", "server1": "party", "replica0": "replica", "replica1": "replica"}
    assert line[0] == wanted[name]
    assert parses(line).params["config"] == Path("/etc/mpcnet") / FILE


def test_limits_of_memory_leave_no_swap() -> None:
    for name in PARTIES:
        assert SERVICES[name]["memswap_limit"] == SERVICES[name]["mem_limit"]


@pytest.fixture
def monitor() -> Iterator[tuple[Metrics, Monitor]]:
    metrics = Metrics("server0")
    monitor = Monitor(metrics, 0)
    monitor.start()
    yield metrics, monitor
    monitor.close()


@pytest.mark.parametrize("name", PARTIES)
def test_health(name: str, monitor: tuple[Metrics, Monitor]) -> None:
    """The check itself, against a monitor: well once the party can serve, not before."""
    metrics, server = monitor
    how, program, *arguments = SERVICES[name]["healthcheck"]["test"]
    port = re.search(r"--monitor-port (\d+)", README)
    assert (how, program) == ("CMD", "python") and port and f"{HOST}:{port[1]}/" in arguments[-1]
    line = [sys.executable, *(word.replace(f":{port[1]}/", f":{server.port}/") for word in arguments)]
    assert subprocess.run(line, capture_output=True, timeout=LIMIT_S, check=False).returncode != 0
    metrics.ready()
    assert subprocess.run(line, capture_output=True, timeout=LIMIT_S, check=False).returncode == 0


# --- image ----------------------------------------------------------------------------------------------------


def instructions(name: str) -> list[tuple[str, str]]:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    found = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in found if name in ("", word)]


def copied() -> set[str]:
    return {source for _, rest in instructions("COPY") for source in rest.split()[:-1]}


def test_image_holds_the_packages_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    packages |= {path.resolve().name for path in (ROOT / "mpcnet").iterdir() if path.is_symlink()}
    assert copied() == packages | {"constraints.txt", "pyproject.toml", "README.md"}
    assert all((ROOT / source).exists() for source in copied())
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert allowed[1] == "*" and {line[1:] for line in allowed if line.startswith("!")} == copied()


def test_image_runs_as_nobody_of_note() -> None:
    order = [word for word, _ in instructions("")]
    assert order.index("RUN") < order.index("USER") < order.index("ENTRYPOINT")
    assert instructions("USER")[-1][1].split(":")[0] not in ("root", "0")
    assert instructions("ENTRYPOINT") == [("ENTRYPOINT", '["mpcnet"]')]
    assert "--constraint constraints.txt" in instructions("RUN")[0][1]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert instructions("FROM") == [("FROM", f"python:{wanted}-slim")]
    assert given(SERVICES["server0"]["user"]) == instructions("USER")[-1][1]


def test_compose_builds_this_image() -> None:
    for service in SERVICES.values():
        assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()


# --- systemd --------------------------------------------------------------------------------------------------


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "mpcnet@.service").read_text())
    return parser


@pytest.mark.parametrize("instance", INSTANCES)
def test_unit_command(unit: configparser.ConfigParser, instance: str) -> None:
    program, *line = unit["Service"]["ExecStart"].replace("%i", instance).split()
    assert program == "/opt/mpcnet/bin/mpcnet" and line.pop() == "$MPCNET_OPTIONS"
    options = ["--model", "/srv/model"] if instance == "serve-model" else []
    assert parses([*line, *options]).params["config"] == Path("/etc/mpcnet") / FILE


def test_unit_is_confined(unit: configparser.ConfigParser) -> None:
    wanted = {
        "User": "mpcnet", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
        "PrivateDevices": "yes", "CapabilityBoundingSet": "", "RestrictNamespaces": "yes", "LockPersonality": "yes",
        "RestrictSUIDSGID": "yes", "SystemCallArchitectures": "native", "ProtectKernelTunables": "yes",
        "ProtectKernelModules": "yes", "ProtectControlGroups": "yes", "MemorySwapMax": "0", "LimitCORE": "0",
    }  # fmt: skip
    assert {name: unit["Service"].get(name) for name in wanted} == wanted
    assert unit["Service"]["MemoryMax"]


def test_unit_lives_on(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["Restart"] == "on-failure" and unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["KillSignal"] == "SIGTERM" and int(service["TimeoutStopSec"]) >= 60
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"


# --- words ----------------------------------------------------------------------------------------------------


def readme_lines() -> list[list[str]]:
    """The `mpcnet` command lines of the README's shell blocks."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    lines = [line.partition("#")[0] for line in blocks.splitlines()]
    return [found[1].split() for line in lines if (found := re.search("(?:^|/bin/)mpcnet (.*)", line))]


def test_readme_commands() -> None:
    lines = readme_lines()
    assert {line[0] for line in lines} == {"init", "program", "doctor", "renew", "client"} and len(lines) >= 6
    for line in lines:
        parses(line)
    units = set(re.findall(r"mpcnet@([a-z-]+)", README)) - {""}
    assert units == set(INSTANCES)


def test_no_keys_in_the_folder() -> None:
    files = [path for path in DEPLOY.iterdir() if path.is_file()]
    assert len(files) == 6 and not any("PRIVATE KEY" in path.read_text() for path in files)
    ignored = (DEPLOY / ".gitignore").read_text().split()
    for name in SERVICES:
        for mount in SERVICES[name]["volumes"]:
            assert given(mount["source"]).split("/")[1] + "/" in ignored
