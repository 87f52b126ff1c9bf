"""Protocols: one idea a file, as coroutines that await nothing but openings.

May import: the runtime's arrays, randomness, rounds and errors. Never asyncio, sockets, threads or clocks.
"""
