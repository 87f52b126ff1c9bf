"""The whole cluster in one process, from one seed: the parties' own code on virtual time and a virtual network.

`scenario` draws from the seed what happens, and `run` lets it happen: `world` has the processes, `visitors` are the
clients, `faults` break things. What must hold is looked at in `seen` (keystreams and frames), in `words` (replicas), by
`visitors` (answers) and in `rest` (a cluster at rest, or ended). `loop` is the event loop, `network` is TCP, `plain`
stands for TLS, and `replaced` has all else that is another than in the real world; `knobs` are limits that a small
cluster would not meet.
"""
