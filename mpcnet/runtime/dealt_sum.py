"""What the dealer has dealt to one server, as a digest that the other server may carry to that server's replica.

The carrier learns nothing: the hash is keyed with the seed that dealer and server share, without which small
corrections cannot be guessed. So it also says by which seed, and in which session, the masks were made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mpcnet.arrays.ring import Bytes
from mpcnet.randomness.prg import Domain

SUM_BYTES = 32


class DealtSum:
    """Keyed BLAKE2b of the corrections of one stream to one server, in the order of its segments.

    Their lengths are those of the plan, so that their bytes one behind the other are enough. 1 GB takes a second.
    """

    def __init__(self, seed: bytes, session: bytes, stream: int) -> None:
        """`seed` is that of masks, `session` that of the channel between dealer and server."""
        self._state = hashlib.blake2b(digest_size=SUM_BYTES, key=seed, person=b"mpcnet dealt 1")
        self._state.update(Domain(session, stream, "dealt").encode())

    def add(self, packed: Sequence[Bytes]) -> None:
        """The corrections of the next segment that has any."""
        for piece in packed:
            self._state.update(piece.data)

    @property
    def digest(self) -> bytes:
        return self._state.digest()
