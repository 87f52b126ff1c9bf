"""The queue of requests: nothing is lost, clients take turns, and results go back to whom they belong."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpcnet.errors import LocalBusyError, RemoteProtocolError
from mpcnet.launch.party.queue import BUCKETS, PER_CLIENT, Queue, bucket, fits, layout, stack, stack_masks
from mpcnet.launch.party.request import Request, Shares
from mpcnet.models.private.program import Size
from mpcnet.rounds import Part

steady = settings(max_examples=80, derandomize=True, deadline=None)
CLIENTS = ("client", "client:alice", "client:bob", "client:carol")


def request(name: int, client: str = "client", batch: int = 1, length: int = 8, nbytes: int = 0) -> Request:
    keep, nothing = torch.ones(batch, length, dtype=torch.int64), np.zeros(0, np.uint8)
    shares = Shares(keep, nothing, bytes(32), [np.zeros(nbytes, np.uint8)], bytes(32))
    return Request(name.to_bytes(16, "big"), client, Size(batch, length), nbytes, 0.0, 600.0, shares)


def group(queue: Queue, limit: int) -> list[Request]:
    """Of all that wait, with memory for any run."""
    return queue.group(limit, list(queue), lambda sizes: True)


def answer(queue: Queue, each: Request) -> None:
    """As a server does: it runs, and its client takes the answer."""
    queue.took(each)
    each.running = True
    queue.forget(each)


def filled(*requests: Request) -> Queue:
    queue = Queue(1 << 30)
    for each in requests:
        queue.add(each)
    return queue


# --- one after the other --------------------------------------------------------------------------------------------


class Turns(RuleBasedStateMachine):
    """Against the plainest model: the list of what waits, and how often each client was first since another's turn."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.waiting, self.count = Queue(1 << 30), list[Request](), 0
        self.passed: dict[str, dict[str, int]] = {}  # how often others had a turn while this client waited for its own

    @rule(client=st.sampled_from(CLIENTS), batch=st.integers(1, 9), length=st.integers(1, 40))
    def add(self, client: str, batch: int, length: int) -> None:
        self.count += 1
        new = request(self.count, client, batch, length)
        if sum(each.client == client for each in self.waiting) == PER_CLIENT:
            with pytest.raises(LocalBusyError):
                self.queue.add(new)
            return
        self.queue.add(new)
        self.waiting.append(new)
        self.passed.setdefault(client, {})

    @precondition(lambda self: self.waiting)
    @rule(limit=st.integers(1, 300))
    def serve(self, limit: int) -> None:
        """As a server does: a group, taken out."""
        group = self.queue.group(limit, list(self.queue), lambda sizes: True)
        assert group and len(set(map(id, group))) == len(group)
        first = group[0].client
        own = [each for each in self.waiting if each.client == first]
        assert group[0] is own[0]  # a turn is for the client's oldest request
        for client, seen in self.passed.items():
            if client != first:
                seen[first] = seen.get(first, 0) + 1
                assert seen[first] == 1, f"{first} had two turns while {client} waited"
        for each in group:
            answer(self.queue, each)
            self._gone(each)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A client hangs up."""
        each = data.draw(st.sampled_from(self.waiting))
        self._gone(each)

    def _gone(self, each: Request) -> None:
        client = each.client
        if each is next(other for other in self.waiting if other.client == client):
            self.passed[client] = {}  # it had a turn, or gave it up
        self.queue.forget(each)
        self.queue.forget(each)  # a second time is harmless
        self.waiting.remove(each)
        if all(other.client != client for other in self.waiting):
            del self.passed[client]

    @invariant()
    def nothing_is_lost_or_there_twice(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert sorted(each.name for each in self.queue) == [each.name for each in self.waiting]
        assert all(self.queue.find(each.name) is each for each in self.waiting)
        for client in CLIENTS:  # a client's own requests keep their order
            shown = [each.name for each in self.queue if each.client == client]
            assert shown == sorted(shown)


TestTurns = Turns.TestCase
TestTurns.settings = steady


def test_clients_take_turns() -> None:
    greedy = [request(number, "client:bob") for number in range(5)]
    modest = [request(number, "client:alice") for number in range(5, 7)]
    assert list(filled(*greedy, *modest)) == [greedy[0], modest[0], greedy[1], modest[1], *greedy[2:]]


def test_one_that_runs_along_with_others_does_not_cost_its_client_the_turn() -> None:
    """Else a long request would wait for as long as its client has short ones that fit the others' runs."""
    long = request(0, "client:alice", length=512)
    queue = filled(request(1, "client:bob"), request(3, "client:bob", length=64), long, request(2, "client:alice"))
    for each in (chosen := group(queue, 16)):
        answer(queue, each)
    assert [each.name[-1] for each in chosen] == [1, 2]
    assert group(queue, 16) == [long]


def test_forgetting_what_is_not_there_is_harmless() -> None:
    one, other = request(1), request(1, "client:bob")
    queue = filled(one)
    queue.forget(other)
    assert list(queue) == [one]
    queue.forget(one)
    queue.forget(one)
    assert len(queue) == 0 and list(queue) == [] and group(queue, 100) == [] and queue.find(one.name) is None


def test_a_name_is_used_once() -> None:
    queue = filled(request(1))
    with pytest.raises(RemoteProtocolError, match="client:bob: this request id has been used"):
        queue.add(request(1, "client:bob"))


def test_a_client_may_have_so_many_here_and_others_have_room() -> None:
    """An answer that was not taken counts: it is kept for who comes back."""
    queue = filled(*(request(number) for number in range(PER_CLIENT)))
    first = next(iter(queue))
    first.end(failure="a run failed")
    with pytest.raises(LocalBusyError, match=f"client has {PER_CLIENT} requests here; ask again"):
        queue.add(request(1000))
    queue.add(request(1000, "client:bob"))
    queue.forget(first)
    queue.add(request(1001))
    assert len(queue) == PER_CLIENT + 1


def test_memory_is_bounded_and_given_back() -> None:
    """One client gets half, if it has more than one request; what was used counts no more."""
    queue = Queue(4000)
    first, second = request(1, nbytes=1500), request(2, "client:bob", nbytes=2000)
    queue.add(first)
    with pytest.raises(LocalBusyError, match="client has 0 MB of requests here, and gets 0 MB; ask again"):
        queue.add(request(3, nbytes=600))
    queue.add(second)
    with pytest.raises(LocalBusyError, match="the queue holds 0 of 0 MB; ask again in a moment"):
        queue.add(request(4, "client:alice", nbytes=600))
    first.end(result=[(Part(8, (100,)), np.zeros(100, np.uint8))])
    assert first.shares is None
    queue.add(request(4, "client:alice", nbytes=1900))
    queue.forget(first)
    assert first.result == () and [each.name[-1] for each in queue] == [2, 4]


def test_a_request_that_comes_alone_may_take_it_all() -> None:
    queue = Queue(4000)
    queue.add(request(1, nbytes=4000))
    with pytest.raises(LocalBusyError):
        queue.add(request(2, "client:bob", nbytes=1))


def test_requests_show_nothing_of_what_they_hold() -> None:
    secret = request(1)
    secret.shares = Shares(secret.held.keep, secret.held.mask, b"\x5e" * 32, [], bytes(32))
    for shown in (repr(secret), repr(secret.shares)):
        assert "\\x5e" not in shown and "^" not in shown


# --- groups ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "want"), [(1, 8), (8, 8), (9, 16), (33, 48), (128, 128), (129, 192), (512, 512), (513, 513)]
)
def test_buckets(length: int, want: int) -> None:
    assert bucket(length) == want


sizes = st.builds(Size, st.integers(1, 6), st.integers(1, 40))
asked = st.lists(st.tuples(st.sampled_from(CLIENTS), sizes), min_size=1, max_size=20)


@steady
@given(asked, st.integers(1, 600))
def test_a_group_shares_a_bucket_and_keeps_the_limit_unless_it_is_alone(
    wanted: list[tuple[str, Size]], limit: int
) -> None:
    queue = filled(*(request(i, client, size.batch, size.length) for i, (client, size) in enumerate(wanted)))
    order, chosen = list(queue), group(queue, limit)
    assert chosen[0] is order[0]
    assert [each for each in order if each in chosen] == chosen  # in turn
    assert list(queue) == order  # they stay
    assert len({bucket(each.size.length) for each in chosen}) == 1
    tokens = sum(each.size.batch for each in chosen) * max(each.size.length for each in chosen)
    assert tokens <= limit or len(chosen) == 1
    for each in order:  # nobody was left out who had had room
        if each not in chosen and bucket(each.size.length) == bucket(chosen[0].size.length):
            rows = sum(other.size.batch for other in chosen) + each.size.batch
            assert rows * max(other.size.length for other in (*chosen, each)) > limit or len(chosen) == 1


# --- layout, and back -----------------------------------------------------------------------------------------------


@steady
@given(st.lists(sizes, min_size=1, max_size=8), st.integers(1, 16))
def test_a_layout_has_room_for_all_rows_and_no_more(wanted: list[Size], streams: int) -> None:
    found = layout(wanted, streams)
    rows = sum(size.batch for size in wanted)
    assert sum(size.batch for size in found) == rows and len(found) == min(streams, rows)
    assert {size.length for size in found} == {max(size.length for size in wanted)}
    batches = [size.batch for size in found]
    assert max(batches) - min(batches) <= 1 and min(batches) >= 1
    assert fits(wanted, found)


@pytest.mark.parametrize(
    ("wanted", "prepared", "want"),
    [
        ([Size(1, 100)], [Size(1, 128)], True),
        ([Size(1, 128)], [Size(1, 128)], True),
        ([Size(1, 64)], [Size(1, 128)], True),  # just twice the work
        ([Size(1, 63)], [Size(1, 128)], False),
        ([Size(1, 129)], [Size(1, 128)], False),
        ([Size(2, 128)], [Size(1, 128)], False),
        ([Size(2, 128)], [Size(1, 128), Size(1, 128)], True),
        ([Size(1, 128)], [Size(1, 128), Size(1, 128)], True),
        ([Size(1, 128)], [Size(2, 128), Size(1, 128)], False),
    ],
)
def test_material_fits_if_there_is_room_at_no_more_than_twice_the_work(
    wanted: list[Size], prepared: list[Size], want: bool
) -> None:
    assert fits(wanted, prepared) is want


def split(values: torch.Tensor, wanted: Sequence[Size]) -> list[torch.Tensor]:
    """As a server gives results back: the rows in the order of the requests."""
    ends = np.cumsum([size.batch for size in wanted]).tolist()
    return [values[end - size.batch : end] for end, size in zip(ends, wanted, strict=True)]


@steady
@given(st.lists(sizes, min_size=1, max_size=8), st.integers(1, 4), st.integers(0, 3), st.integers(0, 9), st.booleans())
def test_results_go_to_whom_they_belong(
    wanted: list[Size], streams: int, spare_rows: int, spare_tokens: int, deep: bool
) -> None:
    """The model returns of each row the number that stands at its tokens, and only of tokens that are kept."""
    first, *others = layout(wanted, streams)
    prepared = [Size(s.batch, s.length + spare_tokens) for s in (Size(first.batch + spare_rows, first.length), *others)]
    tail = (3,) if deep else ()
    rows = iter(range(1, 1000))
    arrays, masks = [], []
    for size in wanted:
        ids = torch.tensor([next(rows) for _ in range(size.batch)])
        arrays.append(ids.reshape(-1, 1, *(1 for _ in tail)).expand(size.batch, size.length, *tail).clone())
        masks.append(torch.ones(size.batch, size.length, dtype=torch.int64))
    tokens, keeps = stack(arrays, prepared), stack_masks(masks, prepared)
    assert [tuple(t.shape) for t in tokens] == [(size.batch, size.length, *tail) for size in prepared]
    assert [tuple(k.shape) for k in keeps] == [(size.batch, size.length) for size in prepared]

    flat = [t.reshape(*t.shape[:2], -1)[:, :, 0] for t in tokens]
    results = torch.cat([(t * k).amax(1) for t, k in zip(flat, keeps, strict=True)])
    found = split(results, wanted)
    assert torch.cat(found).tolist() == list(range(1, sum(size.batch for size in wanted) + 1))
    kept = split(torch.cat(keeps).sum(1), wanted)
    assert [k.tolist() for k in kept] == [[size.length] * size.batch for size in wanted]
    known = set(torch.cat([array.flatten() for array in arrays]).tolist())
    assert set(torch.cat([t.flatten() for t in tokens]).tolist()) <= known  # padding is copies, nothing else


@steady
@given(st.lists(sizes, min_size=1, max_size=6), st.integers(1, 3), st.data())
def test_masks_are_kept_where_a_client_has_tokens_and_zero_where_they_are_copies(
    wanted: list[Size], streams: int, data: st.DataObject
) -> None:
    prepared = layout(wanted, streams)
    bits: Callable[[Size], st.SearchStrategy[list[int]]] = lambda size: st.lists(  # noqa: E731
        st.integers(0, 1), min_size=size.batch * size.length, max_size=size.batch * size.length
    )
    masks = [torch.tensor(data.draw(bits(size))).reshape(size.batch, size.length) for size in wanted]
    keeps = split(torch.cat(stack_masks(masks, prepared)), wanted)
    for keep, mask in zip(keeps, masks, strict=True):
        assert torch.equal(keep[:, : mask.shape[1]], mask)
        assert not keep[:, mask.shape[1] :].any()


def test_copied_rows_are_as_their_original() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    (keep,) = stack_masks([mask], [Size(4, 4)])
    assert keep.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_every_bucket_is_larger_than_the_last() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))
