"""Processes, commands and files: everything that touches a socket, a disk or a terminal.

`cli` names every command; `infer` and `simulate` are two, on the Python API of `api`. Commands of several files have
folders of their own. May import: models, protocols and the runtime.
"""

import os

# Threads of torch sleep while they wait for each other. By default they spin, and where another process has one of the
# cores, each spins through the time slices that the other one needs: minutes in place of seconds. Read when torch is
# loaded; whoever sets it keeps their own.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
