"""What a user can get wrong at the command line: one line on standard error, no traceback, a non-zero exit code."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from kernels import without_kernels
from limits import LIMIT_S
from parties import deployed, tiny
from safetensors.torch import save_file

from mpcnet.errors import LocalConfigError, LocalInputError, RemoteAbort
from mpcnet.launch import cli
from mpcnet.launch.deployment.settings import read
from mpcnet.launch.party import node
from mpcnet.launch.reporting.screen import console
from mpcnet.launch.simulate import localhost
from mpcnet.launch.simulation.processes import Deployment
from mpcnet.transport.tls import parse_address

Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def mpcnet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process; returns its exit code and its standard error."""

    def nobody(*arguments: object, **options: object) -> None:
        raise AssertionError("a process was started")

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mpcnet", *map(str, arguments)])
        monkeypatch.setattr(Deployment, "start", nobody)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert shown.out == ""
        return ended.value.code, shown.err

    return run


@pytest.fixture
def made(tmp_path: Path):
    with deployed(tiny().config(), tmp_path / "made", timeout_s=0.5) as made:
        yield made


def one_line(result: tuple[int, str], code: int, *words: str) -> None:
    assert result[0] == code, result
    assert result[1].count("\n") == 1 and all(word in result[1] for word in words), result


def test_texts(mpcnet: Cli, made: Deployment, tmp_path: Path) -> None:
    """Nothing starts if no text can be asked."""
    client = "infer", "--config", made.config("client")
    one_line(mpcnet(*client), 65, "texts: want at least one text, got none")
    one_line(
        mpcnet(*client, "fine"), 78, "texts: want a program of a model with a tokenizer, got one of random weights"
    )
    one_line(mpcnet(*client, "fine", "--tokens", tmp_path), 65, "texts: want texts or --tokens, got both")
    one_line(mpcnet("simulate", ""), 65, "text 1: want words, got an empty text")
    one_line(
        mpcnet("simulate", "--length", 4, "one two three", " "), 65, "text 1: want at most 4 tokens, got 5", "text 2"
    )
    one_line(mpcnet("simulate", "--file", tmp_path / "none"), 78, "none: want a text file, got")
    one_line(mpcnet("simulate", "--file", tmp_path / "none", "fine"), 65, "want words, --file or --pairs, got more")


def test_token_files(mpcnet: Cli, made: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    good = {"ids": [[1, 2]], "types": [[0, 0]], "mask": [[1, 1]]}
    cases = [
        ("not json", 78, "want JSON batches of ids, types and mask, got a file with a ValueError"),
        ([{"ids": [[1]]}], 78, "KeyError"),
        ([good | {"ids": [[1, 2], [3]]}], 78, "ValueError"),
        ([good | {"ids": [[1, 2**70]]}], 78, "want JSON batches of ids, types and mask"),
        ([good | {"ids": [[1, 2.5]]}], 78, "want whole numbers for ids, types and mask, got others"),
        ([good | {"ids": [[1, 64]]}], 65, "tokens: want ids in 0 ... 63, got one outside"),
        ([good | {"mask": [[1, 2]]}], 65, "tokens: want mask in 0 ... 1, got one outside"),
        ([good | {"mask": [[0, 0]]}], 65, "want a valid token in every row, got a row of padding"),
        ([good | {"types": [[0]]}], 65, "want ids, types and mask of one shape [batch, seq], got"),
    ]
    for content, code, words in cases:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        one_line(mpcnet("infer", "--config", made.config("client"), "--tokens", path), code, words)


def test_files_and_settings(mpcnet: Cli, made: Deployment, tmp_path: Path) -> None:
    config = made.config("server0")
    one_line(mpcnet("party", "--config", tmp_path / "none"), 78, "none: want a TOML file, got")
    one_line(mpcnet("party", "--config", made.config("dealer")), 65, "want role server0 or server1, got dealer")
    one_line(mpcnet("dealer", "--config", config), 65, "want role dealer, got server0")
    one_line(mpcnet("simulate", "--json", tmp_path / "no" / "file"), 78, "want a file in a folder that exists")
    good = config.read_text()
    for wrong, words in (
        (good.replace("timeout_s = 0.5", 'timeout_s = "long"'), "timeout_s: want int, got 'long'"),
        (good.replace("timeout_s = 0.5", "timeout_s = 0"), "timeout_s: want 0.1 to 86400, got 0"),
        (good.replace('net = "none"', 'net = "fast"'), "want none, lan, wan or rtt=40ms,bw=100mbps"),
        (good.replace("127.0.0.1:", "127.0.0.1;"), "address: want host:port"),
    ):
        config.write_text(wrong)
        one_line(mpcnet("party", "--config", config), 78, words)
    config.write_text(good)
    (config.parent / "program.json").write_text("{}")
    one_line(mpcnet("party", "--config", config), 78, "program.json: want 'mpcnet program' of format version ")


def test_options(mpcnet: Cli, tmp_path: Path) -> None:
    (tmp_path / "calibration").write_text("{}")
    one_line(mpcnet("simulate", "--suite", "slow"), 78, "suite: want one of secformer, secformer-v1, fast, crypten")
    one_line(mpcnet("simulate", "--net", "rtt=1"), 78, "link 'rtt=1': want a number and one of us, ms, s")
    one_line(mpcnet("simulate", "--model", tmp_path), 78, "want a directory or hub name that holds config.json")
    one_line(
        mpcnet("simulate", "--calibration", tmp_path / "calibration"), 78, "calibration: want ('mpcnet calibration'"
    )
    one_line(mpcnet("plan", "--length", 513), 78, "length: the model has 512 positions, got 513")


@pytest.mark.slow
def test_unsupported_layers(tmp_path: Path) -> None:
    """All of them are named at once, and no party is started; as a process of its own."""
    settings = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "mish", "is_decoder": True,
        "position_embedding_type": "relative_key", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 16,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(settings))
    save_file({"encoder.layer.0.attention.self.query.lora_A.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    line = [sys.executable, "-m", "mpcnet.launch.cli", "simulate", "--model", str(tmp_path)]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    said = [
        "cannot run privately", "hidden_act: want gelu, gelu_new", "got mish", "is_decoder: want false, got True",
        "position_embedding_type: want absolute, got relative_key", "1 unknown parameters", "missing parameters",
    ]  # fmt: skip
    assert ended.stdout == ""
    one_line((ended.returncode, ended.stderr), 78, *said)


def test_port_in_use(mpcnet: Cli, made: Deployment) -> None:
    address = read(made.config("dealer")).addresses["dealer"]
    with socket.socket() as taken:
        taken.bind(parse_address(address))
        result = mpcnet("dealer", "--config", made.config("dealer"))
    one_line(result, 75, "dealer  failed", f"cannot listen on {address}: the port is in use")


def test_a_device_that_is_not_there(mpcnet: Cli, made: Deployment, tmp_path: Path) -> None:
    """The dealer says so before it listens; a client computes nothing on it."""
    for role in ("dealer", "client"):
        folder = shutil.copytree(made.config(role).parent, tmp_path / role)
        config = folder / "party.toml"
        config.write_text(config.read_text().replace('device = "cpu"', 'device = "cuda:99"'))
    result = mpcnet("dealer", "--config", tmp_path / "dealer" / "party.toml")
    one_line(result, 78, "device: want cuda:99, got", 'or set device = "cpu"')
    assert node.open_node(read(tmp_path / "client" / "party.toml")).settings.device == "cuda:99"


@pytest.mark.parametrize(
    ("mode", "served"), [(0o600, True), (0o440, True), (0o666, False), (0o604, False), (0o620, False)]
)
def test_a_key_that_others_may_use(made: Deployment, tmp_path: Path, mode: int, served: bool) -> None:
    """A group that may read is lawful: so do services get their keys."""
    folder = shutil.copytree(made.config("server0").parent, tmp_path / "server0")
    (folder / "key.pem").chmod(mode)
    words = f"{folder}/key.pem: want a file of its owner alone, got mode {mode:04o}; run: chmod 600 {folder}/key.pem"
    with nullcontext() if served else pytest.raises(LocalConfigError, match=re.escape(words)):
        node.open_node(read(folder / "party.toml"))


def test_who_computes_without_kernels_says_so(made: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    with without_kernels():
        for role in ("server1", "dealer", "client"):
            node.open_node(read(made.config(role)))
    assert capsys.readouterr().err.count("native kernels: not built") == 2


async def raise_it(error: Exception) -> int:
    raise error


def run(made: Deployment, role: str, error: Exception) -> int:
    return node.run(raise_it(error), node.open_node(read(made.config(role))), graceful=False)


def test_a_peers_words_are_no_markup(made: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(made, "client", RemoteAbort("server1", "[/bold] [red]want [batch, length][/nonsense]"))
    assert code == 76
    assert "server1 aborted: [/bold] [red]want [batch, length][/nonsense]\n" in capsys.readouterr().err


def test_a_bug_is_one_line_without_the_value(made: Deployment, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(made, "server0", ValueError("share 123456789")) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("server0  failed bug: ValueError at test_cli.py:") and shown.count("\n") == 1
    assert "123456789" not in shown and "MPCNET_TRACEBACK=1" in shown
    monkeypatch.setenv("MPCNET_TRACEBACK", "1")
    with pytest.raises(ValueError, match="123456789"):
        run(made, "server0", ValueError("share 123456789"))


def test_no_text_at_all() -> None:
    with pytest.raises(LocalInputError, match="want at least one text, got none"):
        localhost.simulate([], localhost.Options(), console)
