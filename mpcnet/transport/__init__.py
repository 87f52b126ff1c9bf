"""Frames between two processes, and what carries them.

From the outside in: `rendezvous` connects the three computing parties again and again, `handshake` agrees on the
program, `tls` dials and listens, `tls_channel` and `tls_engine` pump bytes, `channel` and `wire` say what a frame is.
May import: aio, rounds, errors.
"""
