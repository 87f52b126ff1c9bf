"""Processes, commands and files: everything that touches a socket, a disk or a terminal.

`cli` names every command. May import: models, protocols and the runtime.
"""
