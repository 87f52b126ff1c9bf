"""Names of the control frames between processes, and who sends them.

| frame | from, to | payload |
|---|---|---|
| want | server, owner | none: the session for which it wants the weights |
| weights | owner, servers | a seed, or shares of one parameter after the other |
| order | server0, server1 and dealer | none: what comes next (load, deal, drop, ask, run, begin, end) |
| have | server1, server0 | none: which of the requests asked about it has too, and for how much it has room |
| done | server, server | none: it has finished the run |
| request | client, servers | what it wants and the padding mask (public), a seed and half of the explicit shares |
| queued | server, client | none: the request waits for its turn, and for whom the server waits, if it cannot serve |
| ready | server, client | none: the run has begun; or to the owner: the weights are here |
| result | server, client | a share of the result, and the public cost report; another request may follow |
"""

WANT = "want"
WEIGHTS = "weights"
ORDER = "order"
HAVE = "have"
DONE = "done"
REQUEST = "request"
QUEUED = "queued"
READY = "ready"
RESULT = "result"

LOAD_STREAM = 0
