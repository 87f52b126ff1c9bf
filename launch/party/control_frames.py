"""Names of the control frames between processes, and who sends them.

| frame | from, to | payload |
|---|---|---|
| want | server, owner | none: the session for which it wants the weights |
| weights | owner, servers | a seed and the digest of the other server's upload; then one share after the other |
| order | server0, server1 and dealer | none: what comes next (load, deal, drop, ask, run, begin, end) |
| room | server, server | none: how much memory it has for runs |
| have | server1, server0 | none: which of the requests asked about it has too, and for how much it has room |
| usable | server1, server0 | none: whether its half of the material for this run is good |
| done | server, server | none: it has finished the run, and a digest of all frames if it looks at them |
| begin | server, its replica | two seeds: a run, or the loading, begins; what is public of it |
| entry | server, its replica | a part of what the server received: of an upload, corrections of a segment, a frame |
| witness | server, the other's replica | digests of what the other server should have received and sent |
| confirm | replica, the other server | a tag for each answer, or none and why not |
| request | client, servers | none: the size and kind of a request, and how long it may wait (public) |
| shares | client, servers | behind request: the padding mask (public), a seed, half of the explicit shares; a digest |
| fetch | client, servers | none: the id of a request that it had queued before its connection was lost |
| queued | server, client | none: the request waits for its turn, and for whom the server waits, if it cannot serve |
| ready | server, client | none: the run has begun; or to the owner: the weights are here |
| result | server, client | a share of the result, the public cost report, and the tag of the other server's share |
| taken | client, servers | none: it has the result, which is forgotten; another request may follow |
"""

from collections.abc import Mapping
from typing import Final

WANT = "want"
WEIGHTS = "weights"
ORDER = "order"
ROOM = "room"
HAVE = "have"
USABLE = "usable"
DONE = "done"
BEGIN = "begin"
ENTRY = "entry"
WITNESS = "witness"
CONFIRM = "confirm"
REQUEST = "request"
SHARES = "shares"
FETCH = "fetch"
TAKEN = "taken"
QUEUED = "queued"
READY = "ready"
RESULT = "result"

OTHERS = "others"  # a field: the digest of what the other server gets
TAG = "tag"  # a field: see mpcnet.launch.party.outputs

LOAD_STREAM = 0

FIELDS: Final[Mapping[str, frozenset[str]]] = {  # of each frame; one with others is refused
    WANT: frozenset({"id"}),
    WEIGHTS: frozenset({"id", OTHERS}),
    ORDER: frozenset({
        "what", "stream", "sizes", "answer", "audit", "extent", "ahead", "ask", "ids", "answers", "audits", "extents",
        "uploads", "room",
    }),
    ROOM: frozenset({"bytes"}),
    HAVE: frozenset({"ask", "found", "failed", "room"}),
    USABLE: frozenset({"usable"}),
    DONE: frozenset({"frames"}),
    BEGIN: frozenset({"stream", "sizes", "answer", "audit", "extent", "ids", "requests", "dealer", "other"}),
    ENTRY: frozenset({"of", "index", "sequence"}),
    WITNESS: frozenset({
        "stream", "sizes", "answer", "audit", "extent", "ids", "session", "refresh", "uploads", "sums",
    }),
    CONFIRM: frozenset({"stream", "reason", "room"}),
    REQUEST: frozenset({"id", "batch", "length", "answer", "audit", "extent", "wait_s"}),
    SHARES: frozenset({OTHERS}),
    FETCH: frozenset({"id"}),
    QUEUED: frozenset({"ahead", "waits"}),
    READY: frozenset(),
    RESULT: frozenset({TAG}),
    TAKEN: frozenset(),
}  # fmt: skip
