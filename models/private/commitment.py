"""A hiding commitment to weights: program.json binds the owner to them, and tells nobody anything about them.

    commitment = SHA-256(salt || digest of the weights)

The salt is 32 random bytes that never leave the owner, so weights cannot be guessed and compared, nor two deployments
of the same weights recognised. Other weights of the same shape would answer, and nobody but the owner could notice.

It hides if SHA-256 of a secret of 256 bits and more is pseudo-random, and binds if collisions are hard to find.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from mpcnet.errors import LocalConfigError
from mpcnet.models.families.config import Config
from mpcnet.transport.identity import check_private

SALT_BYTES = 32
SALT_FILE = "weights.salt"
AGAIN = "make the program again (mpcnet program), and the deployment with it (mpcnet init --program)"


def commit(weights_sha256: str, salt: bytes) -> str:
    """The commitment to weights of this :func:`mpcnet.models.checkpoints.checkpoint.digest`, in hexadecimal."""
    return hashlib.sha256(salt + bytes.fromhex(weights_sha256)).hexdigest()


def new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


def write_salt(salt: bytes, folder: Path) -> None:
    """For the owner's eyes alone, from its first moment.

    :raises FileExistsError: there is one, which must not be lost.
    """
    descriptor = os.open(folder / SALT_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(salt.hex() + "\n")


def read_salt(folder: Path) -> bytes | None:
    """None if there is no such file.

    :raises LocalConfigError: it holds something else, or others may read it.
    """
    path = folder / SALT_FILE
    if not path.exists():
        return None
    check_private(path)
    try:
        salt = bytes.fromhex(path.read_text("utf-8").strip())
    except (OSError, ValueError):
        salt = b""
    if len(salt) != SALT_BYTES:
        raise LocalConfigError(f"{path}: want {2 * SALT_BYTES} hex digits, got something else; copy the file again")
    return salt


def check_weights(config: Config, weights_sha256: str, folder: Path) -> str:
    """Whether these weights are those that the program was made for; a warning if it does not say which.

    :raises LocalConfigError: they are others, or the salt beside the owner's settings is missing.
    """
    salt = read_salt(folder)
    if not config.weights:
        if salt is not None:
            raise LocalConfigError(
                f"owner: {SALT_FILE} is here, but program.json commits to no weights: somebody made another; {AGAIN}"
            )
        return "program.json commits to no weights: others of this shape would be served without a word"
    if salt is None:
        raise LocalConfigError(
            f"owner: want {SALT_FILE} in {folder}, which mpcnet program or init wrote with program.json, got none; "
            f"copy it here, or {AGAIN}"
        )
    if not hmac.compare_digest(commit(weights_sha256, salt), config.weights):
        raise LocalConfigError(
            "owner: want the weights that program.json commits to, got others of their shape (or another "
            f"{SALT_FILE}); serve those, or if they were trained on, {AGAIN}"
        )
    return ""
