"""The runtime: bytes, rounds, parties, rings, randomness. It knows no protocol."""

__version__ = "0.1.0"
