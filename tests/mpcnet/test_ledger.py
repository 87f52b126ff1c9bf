"""Costs by operation, and of streams that run side by side."""

from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st

from mpcnet.ledger import Cost, Ledger, overlapped
from mpcnet.rounds import Part

small = st.integers(0, 1000)
costs = st.builds(
    Cost, small, small, small, st.lists(small, min_size=2, max_size=2), small.map(float), small.map(float)
)
ledgers = st.builds(Ledger, st.dictionaries(st.sampled_from(["gelu", "softmax", "layer0/gelu", "open"]), costs))


def test_a_round_is_booked_to_its_first_part_and_bytes_to_each() -> None:
    ledger = Ledger()
    ledger.exchange([Part(8, (10,), "gelu"), Part(64, (2,), "softmax"), Part(8, (1,), "gelu")])
    assert ledger.operations == {"gelu": Cost(1, 11, 11), "softmax": Cost(0, 16, 16)}


def test_streams_side_by_side_have_the_rounds_of_the_longest_and_the_sum_of_all_else() -> None:
    a = Ledger({"gelu": Cost(5, 10, 20, [1, 2], 0.5, 0.25), "open": Cost(1, 1, 1)})
    b = Ledger({"gelu": Cost(3, 100, 200, [10, 20], 1.0, 2.0), "softmax": Cost(7)})
    assert overlapped([a, b]) == Ledger(
        {"gelu": Cost(5, 110, 220, [11, 22], 1.5, 2.25), "open": Cost(1, 1, 1), "softmax": Cost(7)}
    )


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(ledgers, max_size=4))
def test_overlapped_in_any_order_and_without_changing_what_it_reads(parts: list[Ledger]) -> None:
    before = deepcopy(parts)
    found = overlapped(parts)
    assert parts == before
    assert overlapped(reversed(parts)) == found
    for label, cost in found.operations.items():
        of = [part.operations[label] for part in parts if label in part.operations]
        assert cost.rounds == max(one.rounds for one in of)
        assert cost.sent_bytes == sum(one.sent_bytes for one in of)
        assert cost.dealt_bytes == [sum(one.dealt_bytes[party] for one in of) for party in range(2)]
        assert cost.wait_s == sum(one.wait_s for one in of)
    total = found.total()
    assert total.received_bytes == sum(part.total().received_bytes for part in parts)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(ledgers)
def test_one_stream_overlaps_with_nothing(ledger: Ledger) -> None:
    assert overlapped([ledger]) == ledger
    assert overlapped([]) == Ledger()
