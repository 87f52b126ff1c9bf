"""Names of the control frames between processes, and who sends them.

| frame | from, to | payload |
|---|---|---|
| want | server, owner | none: the session for which it wants the weights |
| weights | owner, servers | a seed, or shares of one parameter after the other |
| order | server0, server1 and dealer | none: what comes next (load, deal, drop, ask, run, begin, end) |
| room | server, server | none: how much memory it has for runs |
| have | server1, server0 | none: which of the requests asked about it has too, and for how much it has room |
| usable | server1, server0 | none: whether its half of the material for this run is good |
| done | server, server | none: it has finished the run, and a digest of all frames if it keeps records |
| request | client, servers | none: the size and kind of a request, and how long it may wait (public) |
| shares | client, servers | behind request: the padding mask (public), a seed and half of the explicit shares |
| fetch | client, servers | none: the id of a request that it had queued before its connection was lost |
| queued | server, client | none: the request waits for its turn, and for whom the server waits, if it cannot serve |
| ready | server, client | none: the run has begun; or to the owner: the weights are here |
| result | server, client | a share of the result, and the public cost report |
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
REQUEST = "request"
SHARES = "shares"
FETCH = "fetch"
TAKEN = "taken"
QUEUED = "queued"
READY = "ready"
RESULT = "result"

LOAD_STREAM = 0

FIELDS: Final[Mapping[str, frozenset[str]]] = {  # of each frame; one with others is refused
    WANT: frozenset({"id"}),
    WEIGHTS: frozenset({"id"}),
    ORDER: frozenset({
        "what", "stream", "sizes", "answer", "audit", "extent", "ahead", "ask", "ids", "answers", "audits", "extents",
        "masks", "room",
    }),
    ROOM: frozenset({"bytes"}),
    HAVE: frozenset({"ask", "found", "failed", "room"}),
    USABLE: frozenset({"usable"}),
    DONE: frozenset({"frames"}),
    REQUEST: frozenset({"id", "batch", "length", "answer", "audit", "extent", "wait_s"}),
    SHARES: frozenset(),
    FETCH: frozenset({"id"}),
    QUEUED: frozenset({"ahead", "waits"}),
    READY: frozenset(),
    RESULT: frozenset(),
    TAKEN: frozenset(),
}  # fmt: skip
