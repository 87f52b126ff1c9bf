"""What a party says of its certificate's end, by an invented clock."""

from datetime import UTC, datetime

from mpcnet.launch.party.expiry import DAY_S, Expiry

END = datetime(2030, 1, 31, 12, 30, tzinfo=UTC)
DAY = "2030-01-31 12:30 UTC"


def told(expiry: Expiry, *days: float) -> list[tuple[str, str] | None]:
    """What is said when so many are left."""
    return [expiry.line(END.timestamp() - left * DAY_S) for left in days]


def test_each_mark_is_told_once() -> None:
    lines = told(Expiry(END), 365, 30.1, 30, 29, 7.5, 6.5, 6.4, 0.9, 0.5, 0, -0.1, -100)
    assert [line is not None for line in lines] == [
        False, False, True, False, False, True, False, True, False, True, False, False,
    ]  # fmt: skip
    said = [line for line in lines if line is not None]
    for (text, level), days in zip(said, ("30.0", "6.5", "0.9"), strict=False):
        assert text == f"our certificate expires in {days} days, on {DAY}; mpcnet renew makes another"
        assert level == "warning"
    assert said[3][1] == "error" and said[3][0] == (
        f"our certificate has expired on {DAY}: who is connected stays, but nobody connects anew; "
        "take one from mpcnet renew and restart"
    )


def test_a_party_that_starts_late_says_the_worst_only() -> None:
    first, second = told(Expiry(END), -3, -4)
    assert first is not None and "has expired" in first[0] and second is None


def test_a_clock_that_was_wrong_for_a_while() -> None:
    """It is told again, since by then it is true."""
    lines = told(Expiry(END), 100, -5, 100, -5)
    assert [line is not None for line in lines] == [False, True, False, True]
