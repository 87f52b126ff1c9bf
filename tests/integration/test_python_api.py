"""The Python API against real parties: as tasks of this loop for `connect`, as processes for `local`."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from limits import LIMIT_S
from parties import SERVERS, Parties
from served import served
from small_models import add_word, layout, save_classifier, save_embedding

import mpcnet
from mpcnet.errors import (
    ChannelTimeout,
    LocalConfigError,
    LocalInputError,
    LocalRangeError,
    LocalStateError,
)
from mpcnet.launch.deployment.deploy import TOKENIZER
from mpcnet.launch.simulation.processes import PartyFailed
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published

TEXTS = ["the dog eats", "not good", "a cat sings and the dog eats a cat", "good"]


def theirs(folder: Path, texts: list) -> np.ndarray:
    """What transformers makes of them."""
    return published(load_checkpoint(folder))(texts).numpy()


def near(mine: np.ndarray, plain: np.ndarray) -> None:
    assert mine.dtype == np.float32 and mine.shape == plain.shape
    assert torch.cosine_similarity(torch.tensor(mine).double(), torch.tensor(plain)).min() > 0.999
    assert np.abs(mine - plain).max() < 0.01


def connect(parties: Parties, **options) -> mpcnet.AsyncClient:
    return mpcnet.AsyncClient.connect(parties.made.config("client"), **options)


# --- connect ------------------------------------------------------------------------------------------------------


async def test_embeddings_in_the_order_of_the_texts(tmp_path: Path) -> None:
    """Cut into requests by length, over one connection; empty in, empty out; and what it cost."""
    folder = save_embedding(tmp_path / "model")
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with asyncio.timeout(2 * LIMIT_S), connect(parties) as private:
            near(await private.embed(TEXTS, batch_size=2), theirs(folder, TEXTS))
            assert (private.last.requests, private.last.out_of_range) == (2, ())
            assert private.last.rounds > 0 and min(private.last.dealt_bytes) > 0 and private.last.seconds > 0
            greeted = len(parties.nodes["server0"].channels)
            near(await private.embed(iter(TEXTS[:1])), theirs(folder, TEXTS[:1]))
            assert len(parties.nodes["server0"].channels) == greeted
            nothing = await private.embed([])
            assert nothing.shape == (0, 32) and nothing.dtype == np.float32 and private.last.requests == 0
        with pytest.raises(LocalStateError, match="client: want an open one, got one that was closed; make another"):
            await private.embed(TEXTS)
        await parties.stop()
    assert parties.lost() == []


async def test_one_bad_text_among_good_ones(tmp_path: Path) -> None:
    folder = save_embedding(tmp_path / "model")
    texts = ["the dog", "", "dog " * 600, 7, ("good", "not good", "cat"), ["good", "cat"]]
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with asyncio.timeout(2 * LIMIT_S), connect(parties) as private:
            with pytest.raises(
                LocalInputError, match="text 2: want words, got an empty text; text 3: want at most 128 t"
            ):
                await private.embed(texts)
            with pytest.raises(LocalInputError, match="want a list of texts, got one text; put it in a list"):
                await private.embed("the dog")
            with pytest.raises(LocalInputError, match="batch_size: want 1 to 256, which servers accept, got 257"):
                await private.embed(TEXTS, batch_size=257)
            with pytest.raises(
                LocalInputError, match="classify: want a classifier, got a model of embeddings; call emb"
            ):
                await private.classify(TEXTS)
            with pytest.raises(
                LocalInputError, match="labels: want a classifier, got a model of embeddings; call embed"
            ):
                await private.labels(TEXTS)
            assert private.last.requests == 0, "nothing was asked"
            found = await private.embed(texts, on_error="return")
            near(np.stack([found[0], found[5]]), theirs(folder, ["the dog", ("good", "cat")]))
            errors = [str(entry) for entry in found[1:5] if isinstance(entry, LocalInputError)]
            assert errors[0] == "text 2: want words, got an empty text"
            assert errors[2:] == [
                "text 4: want a text or a pair of texts, got int",
                "text 5: want a text or a pair of texts, got a tuple of 3",
            ]
        await parties.stop()


async def test_classes_labels_and_pairs(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "model", 3)
    texts = [("the dog eats", "not good"), "a cat sings"]
    plain = torch.tensor(theirs(folder, texts))
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with asyncio.timeout(2 * LIMIT_S), connect(parties) as private:
            with pytest.raises(
                LocalInputError, match=r"embed: want a model of embeddings, got a classifier of 3 label"
            ):
                await private.embed(texts)
            found = await private.classify(texts)
            for row, logits in zip(found, plain, strict=True):
                assert row.label == f"LABEL_{int(logits.argmax())}" and row.score == row.scores[row.label]
                assert abs(sum(row.scores.values()) - 1) < 1e-6 and not row.out_of_range
                assert np.allclose(list(row.scores.values()), logits.softmax(0), atol=0.01)
            assert await private.labels(texts) == [row.label for row in found]
            mixed = await private.classify(["", texts[1]], on_error="return")
            assert isinstance(mixed[0], LocalInputError) and mixed[1].label == found[1].label
        await parties.stop()


async def test_out_of_range_is_an_error_unless_it_is_accepted(tmp_path: Path) -> None:
    folder = save_embedding(tmp_path / "model")
    with served(folder, tmp_path / "made", astray=True) as parties:
        parties.serve()
        async with asyncio.timeout(2 * LIMIT_S), connect(parties) as private:
            with pytest.raises(
                LocalRangeError, match=r"text 1: a value left the range .* accept_out_of_range=True shows"
            ):
                await private.embed(["the dog"])
            [left] = await private.embed(["the dog"], on_error="return")
            assert isinstance(left, LocalRangeError) and private.last.out_of_range == (0,)
            accepted = await private.embed(["the dog"], accept_out_of_range=True)
            assert accepted.shape == (1, 32) and private.last.out_of_range == (0,)
        async with connect(parties, audit=False) as unaudited:
            assert (await unaudited.embed(["the dog"])).shape == (1, 32)
        await parties.stop()


async def test_a_call_that_takes_too_long_frees_the_servers(tmp_path: Path) -> None:
    """So does one that is cancelled. The client goes on with new connections."""
    folder = save_embedding(tmp_path / "model")
    with served(folder, tmp_path / "made") as parties:
        for role in (*SERVERS, "dealer"):
            parties.start(role)
        async with asyncio.timeout(2 * LIMIT_S), connect(parties, timeout=0.5) as private:
            for seconds in (0.5, 5.0, 50.0):  # on a busy machine the first may end before the servers have the request
                with pytest.raises(ChannelTimeout, match=rf"embed: want all answers within {seconds:g} s, got 0 of 2"):
                    await private.embed(TEXTS[:2], timeout=seconds)
                if all("queued: 1" in parties.logs[role].lines for role in SERVERS):
                    break
            asked = asyncio.ensure_future(private.embed(TEXTS[:2], timeout=60))
            for role in SERVERS:
                await parties.said(role, "queued: 0")
                await parties.said(role, "queued: 1")
            asked.cancel()
            for role in SERVERS:
                await parties.said(role, "queued: 0")
            parties.start("owner")
            near(await private.embed(TEXTS[:2], timeout=60), theirs(folder, TEXTS[:2]))
        await parties.stop()


async def test_what_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = save_embedding(tmp_path / "model")
    with served(folder, tmp_path / "made") as parties:
        with pytest.raises(LocalConfigError, match="none: want a TOML file, got"):
            await mpcnet.AsyncClient.connect(tmp_path / "none").open()
        with pytest.raises(
            LocalConfigError, match="want the settings of a client, got those of owner; name client/party"
        ):
            await mpcnet.AsyncClient.connect(parties.made.config("owner")).open()
        with pytest.raises(LocalInputError, match="attempts: want 1 or more, got 0"):
            connect(parties, attempts=0)
        add_word(parties.made.config("client").parent / TOKENIZER, "zyzzyva")
        parties.serve()
        async with connect(parties) as private:
            with pytest.raises(LocalConfigError, match="want the tokenizer of the program, sha256"):
                await private.embed(["the dog"])
            for wrong, words in (
                ({"on_error": "ignore"}, "on_error: want"),
                ({"timeout": 0}, "timeout: want more than 0"),
            ):
                with pytest.raises(LocalInputError, match=words):
                    await private.embed(["the dog"], **wrong)
        await parties.stop()


async def test_the_sync_client_beside_a_running_loop(tmp_path: Path) -> None:
    """As in a notebook, whose loop runs: here it serves the parties meanwhile. And from several threads at once."""
    folder = save_embedding(tmp_path / "model")
    layout(folder, "Normalize")
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        path = parties.made.config("client")
        async with asyncio.timeout(2 * LIMIT_S):
            private = await asyncio.to_thread(mpcnet.connect, path)
            both = await asyncio.gather(*(asyncio.to_thread(private.embed, TEXTS[i : i + 2]) for i in (0, 2)))
            near(np.concatenate(both), theirs(folder, TEXTS))
            assert repr(private) == f"Client({path}, open)"
            await asyncio.to_thread(private.close)
            await asyncio.to_thread(private.close)
        with pytest.raises(LocalStateError, match="client: want an open one"):
            private.embed(TEXTS)
        await parties.stop()


# --- local --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_embedding(tmp_path_factory.mktemp("local") / "model", hidden_size=32, num_hidden_layers=1)


@pytest.fixture(scope="module")
def private(model: Path) -> Iterator[mpcnet.Client]:
    with mpcnet.local(model, progress=False) as client:
        yield client


def pids(client: mpcnet.Client) -> list[int]:
    return [process.pid for process in client._client._source._made.running.values()]


def alive(pid: int) -> bool:
    """Neither ended nor a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_local_in_a_running_loop(private: mpcnet.Client, model: Path) -> None:
    """One set of processes for all calls; the cost is the plan's."""
    before = pids(private)
    near(private.embed(TEXTS), theirs(model, TEXTS))
    near(private.embed(TEXTS[:1]), theirs(model, TEXTS[:1]))
    plan = mpcnet.plan(model, length=5, progress=False)
    assert pids(private) == before and len(before) == 4
    assert (private.last.rounds, private.last.sent_bytes) == (plan.rounds, plan.sent_bytes)
    assert private.last.dealt_bytes == plan.dealt_bytes


def test_local_threads_are_the_callers(private: mpcnet.Client) -> None:
    """Only the processes run with as many threads as was said."""
    assert private._client._opened[0].node.settings.threads == 0
    assert torch.get_num_threads() >= 1


def test_unknown_models_and_links_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match="want a directory or hub name that holds"):
        mpcnet.local(tmp_path)
    with pytest.raises(LocalConfigError, match="suite: want one of"):
        mpcnet.local("demo", suite="slow")
    with pytest.raises(mpcnet.errors.MpcError, match="link 'rtt=1': want a number and one of us, ms, s"):
        mpcnet.local("demo", net="rtt=1")


def test_a_process_that_ends_is_named(model: Path) -> None:
    """By the call that waits, or by the next one; the others end with the client."""
    with mpcnet.local(model, progress=False) as client:
        running = client._client._source._made.running
        running["server1"].kill()
        with pytest.raises(PartyFailed, match=r"server1 \(exit code -9\)"):
            client.embed(TEXTS)
        left = pids(client)
    assert not any(map(alive, left))


@pytest.mark.parametrize("end", ["SIGKILL", "a return without close"])
def test_processes_end_with_their_parent(model: Path, end: str) -> None:
    """However it ends: SIGKILL leaves nobody time to clean up; whoever just returns leaves no files behind."""
    code = """
        import sys, mpcnet
        private = mpcnet.local(sys.argv[1], progress=False)
        print(*(process.pid for process in private._client._source._made.running.values()), flush=True)
        print(private._client._source._made.folder, flush=True)
        sys.stdin.read()
    """
    line = [sys.executable, "-c", textwrap.dedent(code), str(model)]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) as parent:
        children = [os.pidfd_open(int(word)) for word in parent.stdout.readline().split()]
        assert len(children) == 4 and select.select(children, [], [], 0)[0] == []
        folder = Path(parent.stdout.readline().strip())
        assert folder.is_dir()
        if end == "SIGKILL":
            parent.send_signal(signal.SIGKILL)
        else:
            parent.stdin.close()
            assert parent.wait(LIMIT_S) == 0 and not folder.exists()
    for child in children:
        assert select.select([child], [], [], LIMIT_S)[0], "it still runs"
        os.close(child)


def test_importing_is_cheap() -> None:
    """No torch until it is needed, and every public name is there."""
    code = """
        import sys, mpcnet
        assert not {"torch", "numpy", "transformers", "launch"} & sys.modules.keys(), sys.modules.keys()
        assert mpcnet.errors.MpcError and set(mpcnet.__all__) <= set(dir(mpcnet))
        for name in mpcnet.__all__:
            getattr(mpcnet, name)
        assert not hasattr(mpcnet, "no_such_name")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)
