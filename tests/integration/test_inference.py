"""Private answers of a tiny model over real sockets, beside the plaintext model's and the static plan."""

import pytest
import torch
from integration.parties import LABELS, SERVERS, SHAPE, Parties, some_tokens

from launch import report
from launch.client import Answer
from models.program import Plans, Size
from models.text import Tokens
from protocols.suites import SUITES

VARIANTS = [{"suite": suite, "softmax": softmax} for suite in SUITES for softmax in ("exact", "2quad")]
HEADS = [{"labels": LABELS}, {"embedding": "client"}, {"labels": LABELS, "embedding": "client"}]


def check(parties: Parties, tokens: Tokens, answer: Answer) -> None:
    """The values are the float model's, and both servers measured what the plan says, operation by operation."""
    config = parties.node("client").config
    plain = parties.model.plain(tokens, config.numbers.softmax)
    assert answer.values.shape == plain.shape
    assert torch.cosine_similarity(answer.values, plain).min() > 0.9999
    assert (answer.values - plain).abs().max() < 0.005
    plan = report.planned(Plans(config).infer(Size(*tokens.ids.shape)).ledger, 0)
    for measured in answer.reports:
        assert report.same(plan, measured) == []
        assert {key: measured[key] for key in report.COST_KEYS} == {key: plan[key] for key in report.COST_KEYS}


@pytest.mark.parametrize(
    "parties", VARIANTS + HEADS, indirect=True, ids=lambda chosen: "-".join(map(str, chosen.values()))
)
async def test_answers(parties: Parties) -> None:
    """Padding, several sentences, one token, an odd length, the longest: one request after the other."""
    requests = [some_tokens(lengths) for lengths in ([5, 3, 4], [1], [7], [SHAPE.positions])]
    parties.serve(len(requests))
    parties.give_weights()
    for tokens in requests:
        check(parties, tokens, await parties.ask(tokens))
    ended = await parties.end("owner", "dealer", *SERVERS)
    assert set(ended.values()) == {0}


@pytest.mark.parametrize("stock_mib", [0, 1])
async def test_stock_smaller_than_an_inference(parties: Parties, stock_mib: int) -> None:
    """The dealer streams; the answer and its cost are the same."""
    tokens = some_tokens([SHAPE.positions] * 24)
    dealt = Plans(parties.node("client").config).infer(Size(*tokens.ids.shape)).ledger.total().dealt_bytes
    assert min(dealt) > 4 << 20
    parties.serve(**{role: parties.node(role, stock_mib=stock_mib) for role in SERVERS})
    parties.give_weights()
    check(parties, tokens, await parties.ask(tokens))
    assert set((await parties.end("dealer", *SERVERS)).values()) == {0}


@pytest.mark.parametrize("parties", [{"net": "rtt=4ms,bw=1gbps,jitter=1ms"}], indirect=True, ids=["4 ms"])
async def test_a_slow_link_changes_the_time_only(parties: Parties) -> None:
    tokens = some_tokens([5, 3])
    parties.serve()
    parties.give_weights()
    answer = await parties.ask(tokens)
    check(parties, tokens, answer)
    rounds = answer.reports[0]["rounds"]
    assert answer.seconds_online > rounds * 0.002  # half a round trip each way at once


async def test_clients_at_once_are_served_one_after_the_other(parties: Parties) -> None:
    asked = {f"client{i}": some_tokens([i + 1, 4], seed=i) for i in range(3)}
    parties.serve(len(asked))
    parties.give_weights()
    for name, tokens in asked.items():
        parties.ask(tokens, name=name)
    answers = await parties.end(*asked)
    for name, tokens in asked.items():
        check(parties, tokens, answers[name])
    assert set((await parties.end("dealer", *SERVERS)).values()) == {0}
