"""The model of time: what each count costs over a link."""

import pytest

from mpcnet.launch.netem.predict import Counts, Terms, mean_counts, online
from mpcnet.transport.latency import Link

LINK = Link(rtt_s=0.040, bandwidth_bps=1e8)
COUNTS = Counts(rounds=100, sent_bytes=2_500_000, compute_s=0.7)


def test_a_round_costs_one_flight() -> None:
    assert online(COUNTS, LINK).delay_s == pytest.approx(100 * 0.020)


def test_bytes_go_one_way_at_the_bandwidth() -> None:
    assert online(COUNTS, LINK).transfer_s == pytest.approx(0.2)


def test_an_ideal_link_leaves_compute() -> None:
    assert online(COUNTS, Link()) == Terms(0.0, 0.0, 0.7)


def test_in_turn_is_the_sum_and_overlapped_the_larger() -> None:
    assert Terms(1.0, 0.5, 0.7).total_s == pytest.approx(2.2)
    assert Terms(1.0, 0.5, 0.7, 0.3).total_s == pytest.approx(2.5)
    assert Terms(1.0, 0.5, 0.7).overlapped_s == 1.5
    assert Terms(0.1, 0.2, 0.7).overlapped_s == 0.7


def test_mean_counts_leave_the_request_out_that_warms_up() -> None:
    first, second, third = (
        {"rounds": 168, "sent_bytes": sent, "compute_s": seconds}
        for sent, seconds in ((1, 9.0), (400, 0.2), (600, 0.3))
    )
    assert mean_counts({"requests": [first, second, third]}) == Counts(168, 500, 0.25)
    assert mean_counts({"requests": [first]}) == Counts(168, 1, 9.0)
