"""The whole cluster in one process, from one seed: the parties' own code on virtual time and a virtual network.

`loop` is the event loop, `network` is TCP, `plain` stands for TLS, `world` has the parties, `faults` breaks them, and
`run` does all of that for a seed and checks what must hold.
"""
