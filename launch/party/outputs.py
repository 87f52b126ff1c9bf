"""A server's share of each answer as it leaves, and its tag: by that a client knows that its server's replica computed
the same share.

A tag is keyed with the seed that the client gave this server. The other server, which carries the tag, does not know
the seed, so it learns nothing of a share that it might guess, such as that of a label, and cannot make another tag.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import torch

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import RemoteProtocolError
from mpcnet.models.private.inference import Response
from mpcnet.models.private.program import Size
from mpcnet.models.shape import BertShape
from mpcnet.protocols.share import Bits, Shared
from mpcnet.rounds import Part

TAG_BYTES = 32


def responses(shape: BertShape, results: Sequence[Response], sizes: Sequence[Size]) -> list[Response]:
    """The rows of each request, from the results of the streams; spare rows of the last stream are nobody's.

    Of answers for tokens, a request's own ones: a run is as long as its longest request.
    """
    values, first, row = torch.cat([result.values.value for result in results]), results[0].values, 0
    found = [ring.unpack_bits(bits.packed, bits.shape) for result in results if (bits := result.out_of_range)]
    out_of_range, cut = torch.cat(found) if found else None, list[Response]()
    for size in sizes:
        rows = slice(row, row := row + size.batch)
        mine = values[rows, : size.length].contiguous() if shape.tells_tokens else values[rows]
        share = Shared(mine, first.bits, first.frac, first.party)
        cut.append(Response(share, None if out_of_range is None else Bits.of(out_of_range[rows], first.party)))
    return cut


def arrays(response: Response) -> list[tuple[Part, Bytes]]:
    """The answer's share and the audit's, if there is one, as they are sent."""
    values = response.values
    value = ring.pack_bits(values.value) if values.bits == 1 else values.value
    made = [(Part(values.bits, values.shape), ring.pack(value, values.bits))]
    if response.out_of_range is not None:
        made.append((Part(1, response.out_of_range.shape), ring.pack(response.out_of_range.packed, 1)))
    return made


def tag(seed: bytes, pieces: Sequence[Bytes]) -> bytes:
    """Of a server's share: keyed BLAKE2b. The lengths of the pieces are public and known to the client."""
    state = hashlib.blake2b(digest_size=TAG_BYTES, key=seed, person=b"mpcnet answer 1")
    for piece in pieces:
        state.update(piece.data)
    return state.digest()


def check_tag(server: str, seed: bytes, pieces: Sequence[Bytes], found: bytes) -> None:
    """By a client, which gave `server` this seed, of the share that came from it; `found` is b"" without a replica.

    :raises RemoteProtocolError: its replica computed another share.
    """
    if found and not hmac.compare_digest(found, tag(seed, pieces)):
        raise RemoteProtocolError(
            f"{server}: want the share of the answer that its replica computed, got another; do not trust this server"
        )
