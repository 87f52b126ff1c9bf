"""Private answers of a tiny model over real sockets, beside the plaintext model's and the static plan."""

import asyncio

import pytest
import torch
from limits import LIMIT_S
from parties import ALICE, ALL, LABELS, SERVERS, SHAPE, Parties, change, some_tokens

from mpcnet.arrays.accelerator import Accelerator
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.reporting import report
from mpcnet.ledger import overlapped
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.texts.tokens import Tokens

OWN = (
    "fast",
    "secformer",
    "secformer-v1",
)  # those of others are less exact than is asked here, and have a test of their own
VARIANTS = [{"suite": suite, "softmax": softmax} for suite in OWN for softmax in ("exact", "2quad")]
HEADS = [{"labels": LABELS}, {"embedding": "client"}, {"labels": LABELS, "embedding": "client"}]


def check_cost(parties: Parties, answer: Answer, *streams: Size) -> None:
    """Both servers ran these streams, and measured what their plans say, operation by operation."""
    plans = Plans(parties.nodes["client"].config)
    plan = report.planned(overlapped(plans.infer(size).ledger for size in streams), 0)
    for measured in answer.reports:
        assert measured["streams"] == [[size.batch, size.length] for size in streams]
        assert report.same(plan, measured) == []
        assert {key: measured[key] for key in report.COST_KEYS} == {key: plan[key] for key in report.COST_KEYS}


async def check(parties: Parties, tokens: Tokens) -> Answer:
    """Ask, alone: the answer is right, and costs what one stream of its size does."""
    answer = await parties.answered(tokens)
    check_cost(parties, answer, Size(*tokens.ids.shape))
    return answer


@pytest.mark.parametrize(
    "parties", VARIANTS + HEADS, indirect=True, ids=lambda chosen: "-".join(map(str, chosen.values()))
)
async def test_answers(parties: Parties) -> None:
    """Padding, several sentences, one token, an odd length, the longest: one request after the other."""
    parties.serve()
    for lengths in ([5, 3, 4], [1], [7], [SHAPE.positions]):
        await check(parties, some_tokens(lengths))
    await parties.stop()
    assert parties.lost() == []


@pytest.mark.parametrize("buffer_mib", [0, 1])
async def test_buffer_smaller_than_an_inference(parties: Parties, buffer_mib: int) -> None:
    """The dealer streams; the answer and its cost are the same."""
    for role in SERVERS:
        change(parties.made, role, buffer_mib=buffer_mib)
    tokens = some_tokens([SHAPE.positions] * 32)
    dealt = Plans(parties.node("client").config).infer(Size(*tokens.ids.shape)).ledger.total().dealt_bytes
    assert min(dealt) > 4 << 20
    parties.serve()
    await check(parties, tokens)


async def test_each_party_multiplies_by_weights_on_its_own_device(parties: Parties) -> None:
    """An accelerator for each, here on the processor: it holds planes of the weights as soon as it has used them."""
    devices = {role: Accelerator(torch.device("cpu")) for role in ALL}
    parties.serve(*(parties.node(role, combine=device.combine) for role, device in devices.items()))
    await check(parties, some_tokens([SHAPE.positions] * 3))
    assert all(len(device._planes) > 0 for device in devices.values())
    await parties.stop()


@pytest.mark.parametrize("parties", [{"net": "rtt=4ms,bw=1gbps,jitter=1ms"}], indirect=True, ids=["4 ms"])
async def test_a_slow_link_changes_the_time_only(parties: Parties) -> None:
    parties.serve()
    answer = await check(parties, some_tokens([5, 3]))
    assert answer.seconds_online > answer.reports[0]["rounds"] * 0.002  # half a round trip each way at once


@pytest.mark.parametrize("parties", [{"streams": 3}], indirect=True, ids=["3 streams"])
async def test_streams_side_by_side(parties: Parties) -> None:
    """Five sentences as 2 + 2 + 1; a batch smaller than that has fewer streams."""
    parties.serve()
    answer = await parties.answered(some_tokens([5, 3, 4, 1, 2]))
    check_cost(parties, answer, Size(2, 5), Size(2, 5), Size(1, 5))
    await check(parties, some_tokens([4]))
    await parties.stop()


@pytest.mark.parametrize("parties", [{"streams": 2}], indirect=True, ids=["2 streams"])
async def test_audited_requests_run_by_themselves(parties: Parties) -> None:
    """Two clients' as one batch, in two streams, and a third's, which asks for no audit, apart from them."""
    asked = {"client": some_tokens([2, 5], seed=1), ALICE: some_tokens([3], seed=2), "plain": some_tokens([4], seed=3)}
    for role in ALL:
        parties.start(role)
    tasks = {
        name: parties.ask(t, "client" if name == "plain" else name, name, audit=name != "plain")
        for name, t in asked.items()
    }
    for role in SERVERS:
        await parties.said(role, "queued: 3")
    parties.start("owner")
    for name, tokens in asked.items():
        answer = await parties.answered(tokens, tasks[name])
        sizes = [Size(1, 4)] if name == "plain" else [Size(2, 5, audit=True), Size(1, 5, audit=True)]
        check_cost(parties, answer, *sizes)
        assert answer.out_of_range == (None if name == "plain" else [False] * len(tokens.ids))
    await parties.stop()


async def test_two_clients_in_one_batch(parties: Parties) -> None:
    """Requests of like length that wait at the same time; each client gets its own rows."""
    asked = {"client": some_tokens([2, 5], seed=1), ALICE: some_tokens([3], seed=2)}
    for role in ALL:
        parties.start(role)
    for role, tokens in asked.items():
        parties.ask(tokens, role)
    for role in SERVERS:
        await parties.said(role, "queued: 2")
    parties.start("owner")
    for role, tokens in asked.items():
        check_cost(parties, await parties.answered(tokens, parties.tasks[role]), Size(3, 5))
    for role in SERVERS:
        await parties.said(role, r"run 1: 2 request\(s\), 3 x 5 tokens, running")


@pytest.mark.parametrize("parties", [{"labels": LABELS, "streams": 2}], indirect=True, ids=["2 streams"])
async def test_labels_and_logits_wait_together_and_run_apart(parties: Parties) -> None:
    """Two clients' requests for labels share a run, a third's for logits has one of its own."""
    tokens = {"a": some_tokens([2, 5], seed=1), "b": some_tokens([4], seed=2), "c": some_tokens([3], seed=3)}
    for role in ALL:
        parties.start(role)
    asked = {
        name: parties.ask(mine, ALICE if name == "b" else "client", name, "logits" if name == "c" else "label")
        for name, mine in tokens.items()
    }
    for role in SERVERS:
        await parties.said(role, "queued: 3")
    parties.nodes["client"] = parties.nodes["a"]
    parties.start("owner")
    first, second, logits = [await asyncio.wait_for(task, LIMIT_S) for task in asked.values()]
    for name, answer in (("a", first), ("b", second)):
        plain = parties.model.plain(tokens[name])
        assert torch.equal(answer.values, torch.nn.functional.one_hot(plain.argmax(1), LABELS).double())
        check_cost(parties, answer, Size(2, 5, "label"), Size(1, 5, "label"))
        assert answer.reports[0]["answer"] == "label"
    parties.model.check(tokens["c"], logits.values)
    check_cost(parties, logits, Size(1, 3))


@pytest.mark.parametrize("parties", [{"batch_tokens": 8}], indirect=True, ids=["8 tokens"])
async def test_clients_take_turns(parties: Parties) -> None:
    """One that asks three times at once does not hold up another; each request is too large to share a run."""
    for role in ALL:
        parties.start(role)
    for index in range(3):
        parties.ask(some_tokens([5], seed=index), name=f"client {index}")
        for role in SERVERS:
            await parties.said(role, f"queued: {index + 1}$")
    parties.ask(some_tokens([6], seed=3), ALICE)
    for role in SERVERS:
        await parties.said(role, "queued: 4")
    parties.start("owner")
    asked = {**{f"client {i}": some_tokens([5], seed=i) for i in range(3)}, ALICE: some_tokens([6], seed=3)}
    parties.nodes["client"] = parties.nodes["client 0"]
    await asyncio.gather(*(parties.answered(tokens, parties.tasks[name]) for name, tokens in asked.items()))
    runs = [line for line in parties.logs["server0"].lines if line.endswith("running")]
    assert ["1 x 6" in line for line in runs] == [False, True, False, False]
