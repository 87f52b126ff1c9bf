"""Requests that run as one batch, as a server's shares by stream: made of what came, and so made again."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mpcnet.launch.party import sharing
from mpcnet.launch.party.queue import stack, stack_masks
from mpcnet.launch.party.request import Shares
from mpcnet.models.families.config import Config
from mpcnet.models.private.program import Size
from mpcnet.protocols.share import Shared


def tokens_of(
    config: Config, party: int, requests: Sequence[tuple[Size, Shares]], streams: Sequence[Size]
) -> list[list[Shared]]:
    """What the clients shared, as server `party`'s share, by stream."""
    shares = [
        sharing.expand_tokens(config, size, party, held.seed, held.explicit, sharing.TOKENS) for size, held in requests
    ]
    columns = [
        [Shared(share, given.bits, given.frac, party) for share in stack(array, streams, of_places=given.of_places)]
        for array, given in zip(zip(*shares, strict=True), config.inputs, strict=True)
    ]
    return [list(arrays) for arrays in zip(*columns, strict=True)]


def keeps_of(requests: Sequence[tuple[Size, Shares]], streams: Sequence[Size]) -> list[Tensor]:
    """Their public padding masks, by stream."""
    return stack_masks([held.keep for _, held in requests], streams)
