"""How much of a bundle is received before its run begins: the same at both servers, so that none waits for ever.

Before a run each server tells the other for how many bytes of corrections it has room. From these two public numbers
and the plans both compute `prefill`: the first segments, in dealing order, that both can hold. When these are here a
server begins, and receives the rest while it computes. Why no run hangs, whatever the plans and the limits:

1. *Before the run.* A server that waits for the prefill reads on, full or not (`CorrectionBuffer.ready`), so its
   lane at the dealer empties. The dealer makes segments in order, and waits for room in one lane at a time. If that is
   the lane of a server that has its prefill and rests, the frames in it are behind the prefill: all of that was made,
   and the other server's part of it is in a lane of its own. (With limits alone, one server rests where it is full, the
   dealer waits for its lane, and the other never gets the segments behind, for which it has room and waits.)
2. *In the run.* Take the first segment k, in dealing order, that one of the servers has not used. It gets the peer's
   half of the exchange before k, since the peer has used the segment that makes it. If it lacks the corrections of k it
   starves, and reads on, full or not. The peer has used all segments before k, so it has received them: neither lane
   holds a frame before k, and an empty lane takes a frame of any size. So the dealer makes k, and the run goes on.
   Streams need not keep step: k counts all of them, and what lies before it for others is put aside.
3. *Other bundles.* Both servers run the same bundles in the same order. Those dealt before a bundle are received whole
   before its run begins, like its prefill. One dealt behind it waits at the dealer until all of it has left, and can
   stop neither server. Frames of a discarded bundle are received and dropped.
4. *Tapes* have no limit, but can be read only when they are finished. They are used only if server0 has all of a
   bundle. Then all of it was made, and what server1 lacks is in a lane of its own.
5. *A slow server.* The dealer waits for it as long as it gives signs of life: it may be computing, or full and idle.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcnet.runtime.stream import Stream, nbytes, turns


def prefill(streams: Sequence[Stream], rooms: Sequence[int]) -> int:
    """How many segments of a bundle, in dealing order, both servers can hold.

    `rooms` are the bytes that server0 and server1 have for it.
    """
    held, count = [0] * len(rooms), 0
    for count, (index, sequence) in enumerate(turns(streams)):
        dealt = streams[index].plan.segments[sequence].dealt
        held = [before + nbytes(parts) for before, parts in zip(held, dealt, strict=True)]
        if any(size > room for size, room in zip(held, rooms, strict=True)):
            return count
    return sum(len(stream.plan.segments) for stream in streams)
