"""Who takes part in a virtual cluster, what they know of each other, and their folders."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from mpcnet.transport.identity import Identity, Roster
from mpcnet.transport.rendezvous import REPLICAS, SERVERS
from tests.cluster import plain

ALL = (*SERVERS, "dealer")
PARTIES = (*ALL, "owner")  # and replicas, in some worlds
CLIENTS = ("client:0", "client:1", "client:2", "client:3", "client:last", "client:evil")


@cache
def base() -> Path:
    """For identities and tapes; gone with this process."""
    shm = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="mpcnet-cluster-", dir=shm if shm.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def roster() -> Roster:
    return plain.roster(*PARTIES, *REPLICAS, *CLIENTS)


@cache
def identity(role: str) -> Identity:
    return plain.write_identity(base() / role.replace(":", "-"), role)
