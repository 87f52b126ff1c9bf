"""Fuzz targets: bytes from outside, changed at random from a seed, and what may come of them.

A case is bytes. Whatever they are, a target ends with a value or with an error of the right class. `python -m tests.fuzz`
runs one; `test_fuzz.py` runs all of them for a while.
"""
