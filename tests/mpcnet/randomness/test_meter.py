"""The plan: what a program will cost, from shapes alone, segment by segment; and the ledger it is written in."""

from typing import Any

import pytest
import torch
from lockstep import Session

from mpcnet.arrays import ring
from mpcnet.arrays.memory import Memory
from mpcnet.ledger import Cost, Ledger
from mpcnet.protocols.arith import pi_mul, pi_square
from mpcnet.protocols.compare import pi_lt
from mpcnet.protocols.gelu import gelu
from mpcnet.protocols.lockstep_session import check_cost, plan
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.randomness.meter import CHAIN_BYTES, MeterSource, measure
from mpcnet.rounds import Part, parallel


async def program(p: Party, x: Shared, y: Shared) -> Shared:
    """Four rounds at two places of the program, two of them shared by parallel branches."""
    product = await pi_mul(p.at("mul"), x, y)
    _, less = await parallel(pi_square(p.at("square"), product), pi_lt(p.at("lt"), x, y))
    return less


def inputs(session: Session, *shape: int) -> tuple[list[Shared], list[Shared]]:
    return session.share(torch.ones(shape), 64, 12), session.share(torch.zeros(shape), 64, 12)


def test_the_plan_is_what_a_run_measures() -> None:
    session = Session()
    x, y = inputs(session, 16)
    run, planned = session.run(program, x, y), plan(program, x, y)
    check_cost(run.ledger, planned)
    assert {label: cost.rounds for label, cost in planned.ledger.operations.items()} == {
        "mul": 1,
        "square": 1,
        "lt": 3,
        "result": 0,
    }
    assert planned.ledger.total().rounds == len(planned.segments) - 1 == 5


def test_segments_list_every_part_in_order() -> None:
    session = Session()
    x, y = inputs(session, 16)
    run, planned = session.run(program, x, y), plan(program, x, y)
    assert [part for segment in planned.segments for part in segment.exchange] == [part for part, _ in run.opened]
    dealt = [[part for s in planned.segments for part in s.dealt[receiver]] for receiver in (0, 1)]
    assert [sum(p.nbytes for p in parts) for parts in dealt] == planned.ledger.total().dealt_bytes
    assert [segment.label for segment in planned.segments] == ["mul", "square", "lt", "lt", "lt", "result"]
    assert planned.segments[-1].exchange == ()
    assert planned.digest == planned.segments[-1].chain
    assert len({segment.chain for segment in planned.segments}) == len(planned.segments)
    assert {len(segment.chain) for segment in planned.segments} == {CHAIN_BYTES}


def test_the_digest_is_of_shapes_widths_and_order() -> None:
    session = Session()

    def digest(build: Any, *shared: Any) -> bytes:
        return plan(build, *shared).digest

    x, y = inputs(session, 16)
    same = digest(program, *inputs(session, 16))
    assert digest(program, x, y) == same
    narrow = [[v.reduce(40) for v in x], [v.reduce(40) for v in y]]
    others = [
        digest(program, *inputs(session, 17)),
        digest(program, *inputs(session, 4, 4)),
        digest(program, *narrow),
        digest(lambda p, x, y: program(p.at("here"), x, y), x, y),
        digest(pi_mul, x, y),
    ]
    assert len({same, *others}) == 6


def test_planning_touches_no_data() -> None:
    """A layer of BERT-large size is planned without the memory it would take."""
    x = Shared(ring.zeros((512, 4096), 24, "meta"), 24, 12, 0)
    planned = measure(gelu(Party(MeterSource()), x, 40), MeterSource())
    assert planned.ledger.total().sent_bytes == 6.25 * 512 * 4096
    assert planned.result.value.device.type == "meta"


def test_memory_counts_what_lives() -> None:
    memory = Memory()
    with memory:
        a = ring.zeros((1000,), 64, "meta")
        b = a + 1
        view = b[:10]
        assert (memory.live, memory.peak) == (16000, 16000)
        del a
        assert (memory.live, memory.peak) == (8000, 16000)
        del b
        assert memory.live == 8000, "a view keeps its storage alive"
        del view
    assert (memory.live, memory.peak) == (0, 16000)


def test_a_shared_round_is_booked_once() -> None:
    ledger = Ledger()
    ledger.exchange([Part(8, (3,), "a"), Part(16, (3,), "b"), Part(1, (3,), "a")])
    ledger.dealt(Part(40, (2,), "b"), 1)
    assert ledger.operations == {"a": Cost(1, 4, 4), "b": Cost(0, 6, 6, [0, 10])}
    assert ledger.total() == Cost(1, 10, 10, [0, 10])
    assert ledger.total().offline_bytes == 10


def test_layers_are_grouped_by_operation() -> None:
    ledger = Ledger()
    for layer in range(3):
        ledger.exchange([Part(8, (4,), f"layer{layer}/gelu")])
        ledger.exchange([Part(8, (2,), f"layer{layer}/out/norm")])
    ledger.exchange([Part(8, (7,), "embedding/norm")])
    assert ledger.grouped() == {"gelu": Cost(3, 12, 12), "norm": Cost(3, 6, 6), "embedding/norm": Cost(1, 7, 7)}
    assert ledger.grouped(2)["out/norm"] == Cost(3, 6, 6)


def test_the_meter_refuses_a_program_that_awaits_something_else() -> None:
    class Other:
        def __await__(self) -> Any:
            yield 1

    async def wrong() -> None:
        await Other()

    with pytest.raises(TypeError, match="exchanges only"):
        measure(wrong(), MeterSource())
