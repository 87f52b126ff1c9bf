"""Processes, commands and files: everything that touches a socket, a disk or a terminal.

`cli` names every command; `infer` and `simulate` are two, on the Python API of `api`. Commands of several files have
folders of their own. May import: models, protocols and the runtime.
"""
