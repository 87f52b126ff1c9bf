"""Point functions: keys by vectors, the payload at its place and 0 elsewhere, one key tells nothing, refusals."""

import json
import re
from math import log2
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import few
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import fss as native
from mpcnet.protocols.lockstep_session import plan
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.randomness import fss

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "fss.json").read_text())
HASHES = fss.Hashes.of(bytes.fromhex(VECTORS["session"]), VECTORS["stream"])


def words(rows: Any) -> Tensor:
    """Hexadecimal words, nested in lists, as int64."""
    if isinstance(rows, str):
        return torch.tensor(int.from_bytes(int(rows, 16).to_bytes(8, "little"), "little", signed=True))
    return torch.stack([words(row) for row in rows])


def random_words(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape, generator=torch.Generator().manual_seed(seed))


def spread(cover: fss.Cover, count: int, seed: int = 0) -> Tensor:
    """What the cover serves: evenly in the logarithm, and both ends of it."""
    low, high = 8 << cover.low, (1 << cover.bits) - (1 << (cover.bits - 5))
    exponent = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = (low * 2.0 ** (exponent * log2(high / low))).to(torch.int64).clamp(low, high - 1)
    x[0], x[-1] = low, high - 1
    return x


def keys(place: Tensor, payload: Tensor, cover: fss.Cover, seed: int = 0) -> tuple[fss.Key, fss.Key]:
    first, second = (random_words(*place.shape, 2, seed=2 * seed + i) for i in (0, 1))
    corrections = fss.generate(place, payload, (first, second), cover, HASHES)
    return fss.Key(0, first, corrections, HASHES), fss.Key(1, second, corrections, HASHES)


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "portable"])
def test_vectors(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernels:
        monkeypatch.setattr(native, "usable", lambda *_: False)
    for row in VECTORS["positive"]:
        cover = fss.Cover(row["low"], row["count"])
        roots = words(row["roots"])
        corrections = fss.generate(
            torch.tensor(row["place"]), words(row["payload"]), (roots[0], roots[1]), cover, HASHES
        )
        assert torch.equal(corrections, words(row["corrections"]))
        for party in (0, 1):
            got = fss.shares(fss.Key(party, roots[party], corrections, HASHES), torch.tensor(row["opened"]), cover)
            want = torch.zeros_like(got)
            for level, z, values in row["shares"][party]:
                want[level, z - 8] = words(values)
            assert torch.equal(got, want)


@pytest.mark.parametrize("row", VECTORS["negative"], ids=lambda row: json.dumps(row))
def test_refused_vectors(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape(row["reason"])):
        cover = fss.Cover(row["low"], row["count"])
        roots = [random_words(1, row.get("roots", 2)) for _ in (0, 1)]
        place, payload = torch.zeros(1, dtype=torch.int64), random_words(1, cover.count, row.get("payload", 4))
        corrections = fss.generate(place, payload, (roots[0], roots[1]), cover, HASHES)
        corrections = random_words(1, row.get("words", corrections.shape[-1]))
        fss.shares(fss.Key(0, roots[0], corrections, HASHES), place, cover)


@few
@given(st.integers(0, 20), st.integers(1, 8), st.integers(0, 2**31))
def test_the_payload_is_in_the_cell_that_holds_x_and_nowhere_else(low: int, count: int, seed: int) -> None:
    cover = fss.Cover(low, count)
    x = spread(cover, 60, seed)
    place = random_words(60, seed=seed) & ((1 << cover.bits) - 1)
    payload = random_words(60, count, 4, seed=seed + 1)
    opened = (place + x) & ((1 << cover.bits) - 1)
    total = sum(fss.shares(key, opened, cover) for key in keys(place, payload, cover, seed))
    assert torch.equal(total, fss.shares(fss.Plain(place, payload), opened, cover))
    level, cell = (total != 0).any(-1).flatten(1).to(torch.int64).argmax(-1), fss.CELLS
    level, z = level // cell, level % cell + fss.NEAR
    assert torch.equal(total.sum((1, 2)), payload[torch.arange(60), level]), "in one cell only"
    size = torch.tensor(cover.sizes)[level]
    inside = x - (z << size)
    assert (inside.abs() < 1 << size).all()
    assert torch.equal(inside, (opened & ((1 << size) - 1)) - (place & ((1 << size) - 1)))


def test_borders_of_cells() -> None:
    """One unit to either side of every border, with the carry and without: always one cell, and a near one."""
    cover = fss.Cover(4, 3)
    borders = torch.tensor([z << size for size in cover.sizes for z in range(8, 32)])
    x = torch.cat([borders - 1, borders, borders + 1]).clamp(8 << 4, (31 << 8) - 1)
    for place in (0, (1 << cover.bits) - 1, 1 << (cover.bits - 1), 0b1010101010101):
        places = torch.full_like(x, place)
        payload = torch.ones(len(x), 3, 4, dtype=torch.int64)
        opened = (places + x) & ((1 << cover.bits) - 1)
        total = sum(fss.shares(key, opened, cover) for key in keys(places, payload, cover))
        assert torch.equal(total.sum((1, 2)), torch.ones(len(x), 4, dtype=torch.int64))


def test_any_corruption_on_the_way_to_the_cell_shows() -> None:
    cover = fss.Cover(3, 3)
    place = torch.tensor([1234])
    opened = place + (9 << 3)  # in a finest cell: the whole tree counts, and the last payload
    pair = keys(place, random_words(1, 3, 4), cover)
    honest = sum(fss.shares(key, opened, cover) for key in pair)
    for word in (*range(2 * cover.depth), *range(cover.words - 4, cover.words)):
        corrections = pair[0].corrections.clone()
        corrections[0, word] ^= 1 << 40
        wrong = sum(fss.shares(fss.Key(key.party, key.seeds, corrections, HASHES), opened, cover) for key in pair)
        assert not torch.equal(wrong, honest), word


@pytest.mark.parametrize("party", [0, 1])
def test_one_key_is_balanced_whatever_it_hides(party: int) -> None:
    """Every bit of corrections and of what one server reads, for one place and payload and many seeds, to 5 sigma."""
    cover, count = fss.Cover(2, 2), 4000
    for place in (0, 511):
        places = torch.full((count,), place)
        key = keys(places, torch.zeros(count, 2, 4, dtype=torch.int64), cover, place)[party]
        read = fss.shares(key, torch.full((count,), 100), cover)
        for seen in (key.corrections, read[:, 0].flatten(1), read[:, 1, :16].flatten(1)):
            ones = torch.stack([(seen >> bit & 1).sum(0) for bit in range(64)])
            assert float((ones - count / 2).abs().max()) < 5.5 * (count / 4) ** 0.5


def test_no_rows_and_no_dimensions() -> None:
    cover = fss.Cover(3, 2)
    for shape in ((0,), (2, 0), ()):
        place = torch.full(shape, 77)
        first, second = keys(place, torch.ones(*shape, 2, 4, dtype=torch.int64), cover)
        total = fss.shares(first, place + 100, cover) + fss.shares(second, place + 100, cover)
        assert total.shape == (*shape, 2, 24, 4)
        assert int(total.sum()) == 4 * place.numel()


def program(times: int) -> Any:
    async def build(p: Party, x: Shared) -> list[fss.Points]:
        opened = await p.open_one(x)
        cover = fss.Cover(3, 2)
        return [
            p.points(opened.mask, lambda r: torch.ones(*r.shape, 2, 4, dtype=torch.int64), cover) for _ in range(times)
        ]

    return build


def test_both_servers_get_the_same_corrections_and_their_own_seeds() -> None:
    session = Session()
    x = session.share(torch.full((5, 2), 100.0), 10, 0)
    run = session.run(program(1), x)
    (first,), (second,), (shape,) = run.results
    assert (first.party, second.party) == (0, 1)
    assert torch.equal(first.corrections, second.corrections)
    assert not torch.equal(first.seeds, second.seeds)
    assert (shape.seeds.device.type, shape.corrections.device.type) == ("meta", "meta")
    nbytes = 10 * (16 * 7 + 32 * 2)
    assert run.ledger.total().dealt_bytes == [nbytes, nbytes] == plan(program(1), x).ledger.total().dealt_bytes
    opened = run.opened[0][1]
    total = fss.shares(first, opened, fss.Cover(3, 2)) + fss.shares(second, opened, fss.Cover(3, 2))
    assert torch.equal(total.sum((2, 3)), torch.ones(5, 2, 4, dtype=torch.int64))


def test_keys_are_used_once() -> None:
    """Two uses of one mask, in two runs of one session: no seed and no correction comes again."""
    session = Session()
    x = session.share(torch.full((50,), 100.0), 10, 0)
    found = [key for _ in range(2) for result in session.run(program(2), x).results[:2] for key in result]
    assert len({word for key in found for word in key.seeds.reshape(-1).tolist()}) == 8 * 100
    assert len({word for key in found for word in key.corrections.reshape(-1).tolist()}) == 4 * 50 * (2 * 7 + 4 * 2)


def test_shapes_are_enough_for_the_dealer_and_the_meter() -> None:
    cover = fss.Cover(3, 2)
    shapes = fss.shares(fss.shape_only((3, 1), cover), ring.zeros((3, 1), 10, "meta"), cover)
    assert (shapes.shape, shapes.dtype) == ((3, 1, 2, 24, 4), torch.int64)


def test_no_two_runs_hash_alike() -> None:
    """The four keys differ, and all of them from run to run, whether session or stream is another."""
    runs = [fss.Hashes.of(session, stream) for session in (bytes(16), b"another session!") for stream in range(3)]
    assert len({key for run in runs for key in run.keys}) == 4 * len(runs)
    assert fss.Hashes.of(bytes(16), 2).keys == runs[2].keys
    cover, seeds = fss.Cover(3, 2), (random_words(5, 2, seed=1), random_words(5, 2, seed=2))
    place, payload = random_words(5) & 1023, random_words(5, 2, 4)
    first, second = (fss.generate(place, payload, seeds, cover, run) for run in runs[:2])
    assert not (first == second).any()
    wrong = fss.shares(fss.Key(0, seeds[0], first, runs[1]), place, cover)
    assert not (wrong == fss.shares(fss.Key(0, seeds[0], first, runs[0]), place, cover)).all()


def test_all_parties_of_a_run_derive_the_same_hashes() -> None:
    session = Session()
    for stream in (1, 2):
        (first, second), dealer = session.sources()
        assert first.hashes.keys == second.hashes.keys == dealer.hashes.keys == session.hashes(stream).keys
