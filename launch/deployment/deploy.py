"""A deployment's folder: fresh keys, and for each role the public program and its settings.

::

    DIR/server0/    ca.pem cert.pem key.pem roster.json program.json party.toml    goes to server0's host, likewise
    DIR/server1/    DIR/dealer/    DIR/owner/                                      the others
    DIR/replica0/   DIR/replica1/                                                  of servers that have a replica
    DIR/owner/      weights.salt as well, unless the owner made the program elsewhere (mpcnet program)
    DIR/client/     tokenizer/ as well: the model's own, by the digest in program.json
    DIR/authority/  the key that signs certificates; belongs to no host: keep it offline
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.deployment.certs import ROLES, create_deployment, role_folder
from mpcnet.launch.deployment.settings import Settings
from mpcnet.models.families.config import Config
from mpcnet.models.preprocessing import copy_tokenizer
from mpcnet.models.private import program
from mpcnet.models.private.commitment import write_salt

TOKENIZER = "tokenizer"  # a client's, in its folder


def write_deployment(
    folder: Path,
    config: Config,
    addresses: Mapping[str, str],
    more_roles: Sequence[str] = (),
    tokenizer: str = "",
    salt: bytes | None = None,
    **settings: Any,
) -> None:
    """Write all of it.

    `addresses` are those of LISTENERS, `more_roles` clients with names of their own (client:NAME), `tokenizer` the
    folder of the one that clients get ("" if there is none), `salt` that of the commitment to the weights, where the
    owner makes the deployment itself, `settings` more of every process's Settings: its `replicas` get folders too.

    :raises LocalConfigError: the folder holds a deployment already, or cannot be written.
    """
    roles = (*ROLES, *settings.get("replicas", ()), *more_roles)
    create_deployment(folder, roles)
    if salt is not None:
        write_salt(salt, folder / "owner")
    for role in roles:
        place = folder / role_folder(role)
        program.save(config, place / "program.json")
        if tokenizer and role.startswith("client"):
            copy_tokenizer(tokenizer, place / TOKENIZER)
        settings_file.write(Settings(folder=place, role=role, addresses=addresses, **settings))
