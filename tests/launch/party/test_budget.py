"""What a server's memory is for: which requests fit, how many sentences would, and whose limit it is."""

from pathlib import Path

import pytest
from parties import tiny

from mpcnet.errors import LocalConfigError, LocalSizeError
from mpcnet.launch.deployment.machine import memory_bytes
from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.party.budget import RUN_FACTOR, Budget, of_dealer, of_server, run_bytes
from mpcnet.models.private.program import Plans, Size

PLANS = Plans(tiny().config())


def room_for(size: Size, more: int = 0) -> Budget:
    """A budget that just holds a run of this size."""
    return Budget(1000 + run_bytes(PLANS.infer(size)) + more, 400, 500, 100)


@pytest.mark.parametrize("audit", [False, True])
@pytest.mark.parametrize("length", [1, 5, 16])
@pytest.mark.parametrize("batch", [1, 2, 3, 17])
def test_the_largest_batch_is_what_just_fits(batch: int, length: int, audit: bool) -> None:
    size = Size(batch, length, audit=audit)
    for asked in (batch, batch + 1, 40, 256):
        wanted = Size(asked, length, audit=audit)
        assert room_for(size).largest(PLANS, wanted) == batch
        assert room_for(size, -1).largest(PLANS, wanted) == batch - 1


def test_what_does_not_fit_is_told_what_would() -> None:
    budget = room_for(Size(3, 16))
    budget.check(PLANS, Size(3, 16))
    with pytest.raises(
        LocalSizeError, match=r"request: want sentences x tokens .*memory_mib.*, got 4 x 16; ask for 3"
    ) as few:
        budget.check(PLANS, Size(4, 16))
    with pytest.raises(LocalSizeError, match="got 4 x 16; shorten the text") as none:
        room_for(Size(1, 16), -1).check(PLANS, Size(4, 16))
    assert (few.value.largest, none.value.largest) == (3, 0)


def test_no_plan_is_made_that_is_far_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a client could keep a server planning."""
    plans, made = Plans(tiny().config()), list[Size]()
    infer = Plans.infer
    monkeypatch.setattr(Plans, "infer", lambda self, size: (made.append(size), infer(self, size))[1])
    assert room_for(Size(2, 16)).largest(plans, Size(256, 16)) == 2
    assert max(size.batch for size in made) <= 4


def test_a_run_takes_its_planned_arrays_times_what_was_measured() -> None:
    assert run_bytes(PLANS.infer(Size(2, 8))) == int(RUN_FACTOR * PLANS.infer(Size(2, 8)).peak_bytes)


def test_the_smallest_room_of_all_parties_counts() -> None:
    budget = room_for(Size(9, 9))
    assert budget.within(7).run_bytes == 7
    assert budget.within(1 << 60) == budget


def test_settings(tmp_path: Path) -> None:
    whole = Settings(tmp_path, "server0", {}, memory_mib=3000)
    server, dealer = of_server(whole, PLANS), of_dealer(whole, PLANS)
    left = (3000 << 20) - server.held_bytes
    assert (server.total_bytes, server.buffer_bytes, server.queue_bytes) == (3000 << 20, left // 2, left // 8)
    assert dealer.run_bytes > server.run_bytes
    less = of_server(Settings(tmp_path, "server0", {}, memory_mib=3000, buffer_mib=5, queue_mib=3), PLANS)
    assert (less.buffer_bytes, less.queue_bytes) == (5 << 20, 3 << 20)
    machine = of_server(Settings(tmp_path, "server0", {}), PLANS)
    assert machine.total_bytes == int(0.8 * memory_bytes())
    with pytest.raises(LocalConfigError, match=r"memory_mib: want \d+ or more for this program, got 200; give"):
        of_server(Settings(tmp_path, "server0", {}, memory_mib=200), PLANS)


def test_the_smallest_limit_of_the_control_groups_counts(tmp_path: Path) -> None:
    ours, inner = tmp_path / "cgroup", tmp_path / "groups/outer/inner"
    inner.mkdir(parents=True)
    ours.write_text("0::/outer/inner\n")
    physical = memory_bytes(tmp_path / "groups", tmp_path / "none")
    for inner_text, outer_text, want in (
        ("max", "max", physical), ("1000", "max", 1000), ("1000", "900", 900), (str(10 * physical), "max", physical),
    ):  # fmt: skip
        (inner / "memory.max").write_text(inner_text + "\n")
        (inner.parent / "memory.max").write_text(outer_text + "\n")
        assert memory_bytes(tmp_path / "groups", ours) == want
