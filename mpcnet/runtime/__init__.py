"""Programs run over channels: the servers' side, the dealer's, and corrections that wait in between.

`session` runs a server's streams and `dealing` the dealer's. Corrections that came early lie in a `correction_buffer`,
in memory or on a `sealed_tape`.
May import: randomness, transport, arrays, aio, ledger, rounds, errors.
"""
