"""A flood of strangers is told in a few lines, and none of them is forgotten."""

from mpcnet.errors import RemoteProtocolError
from mpcnet.launch.party.refusals import MOST, PERIOD_S, Refusals

ERROR = RemoteProtocolError("this is not our TLS 1.3")


def test_the_first_are_said_and_the_rest_are_counted() -> None:
    now_s = 5.0
    refusals = Refusals(lambda: now_s)
    lines = [refusals.line(f"refused a connection from 10.0.0.9:{port}", ERROR) for port in range(1000)]
    assert lines[0] == "refused a connection from 10.0.0.9:0: this is not our TLS 1.3"
    assert all(lines[:MOST]) and not any(lines[MOST:])
    now_s += PERIOD_S - 0.1
    assert refusals.line("10.0.0.9:1", ERROR) is None
    now_s += 0.2
    line = refusals.line("10.0.0.8:1", ERROR)
    assert line is not None and line.endswith(f"TLS 1.3; {1000 - MOST + 1} more before it, of which nothing was said")
    assert all("more" not in (refusals.line("10.0.0.8:1", ERROR) or "more") for _ in range(MOST - 1))
    assert refusals.line("10.0.0.8:1", ERROR) is None


def test_a_refusal_now_and_then_is_always_said() -> None:
    now_s = 0.0
    refusals = Refusals(lambda: now_s)
    for _ in range(3 * MOST):
        now_s += PERIOD_S / MOST
        assert refusals.line("10.0.0.9:1", ERROR) is not None
