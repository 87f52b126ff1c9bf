"""Names of the control frames between processes, and who sends them.

| frame | from, to | payload |
|---|---|---|
| weights | owner, servers | a seed, or shares of one parameter after the other |
| order | server0, server1 and dealer | none: run this program on this stream, or stop |
| request | client, servers | the padding mask (public) |
| ready | server, client | none: the offline phase of the request is done |
| tokens | client, servers | a seed and half of the explicit shares |
| result | server, client | a share of the result, and the public cost report |
| done | dealer, server0 | none: public statistics |
| idle | to whoever waits for one of the others | none: a sign of life |
"""

WEIGHTS = "weights"
ORDER = "order"
REQUEST = "request"
READY = "ready"
TOKENS = "tokens"
RESULT = "result"
DONE = "done"
IDLE = "idle"
STOP = "stop"

LOAD_STREAM = 0
IDLE_S = 20.0  # how often a party shows those who wait for it that it is alive, unless their timeout is short
