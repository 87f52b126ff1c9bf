"""Local attention: each token attends to those within a window, and only the band of such pairs is computed.

Queries stand in blocks of as many as the window reaches. A block's keys are its own and as many on either side, so a
row of scores has three blocks of keys, whatever the text's length. Places behind either end of a text repeat its last
token and are masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpcnet.protocols.arith import matmul
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Masked, Shared

BLOCKS = 3  # of keys


@dataclass(frozen=True, slots=True)
class Band:
    """Of a text of `length` tokens, each attending to those at most `window` away."""

    window: int
    length: int

    @staticmethod
    def of(window: int, length: int) -> Band | None:
        """None where all pairs are no more than a band's."""
        return Band(window, length) if window and length > BLOCKS * window else None

    @property
    def blocks(self) -> int:
        return -(-self.length // self.window)

    def scores(self, p: Party, query: Masked, key: Masked) -> Shared:
        """q k' of the band: twice [B, h, n, k] -> [B, h, n, 3 windows]."""
        rows = query.map(lambda x: self._split(x, self._queries()))
        columns = key.map(lambda x: self._split(x, self._keys()).transpose(3, 4))
        return matmul(p, rows, columns).map(self._together)

    def weighted(self, p: Party, weights: Masked, value: Masked) -> Shared:
        """The product of weights [B, h, n, 3 windows] with V [B, h, n, k]: [B, h, n, k]."""
        rows = weights.map(lambda x: self._split(x, self._queries()))
        columns = value.map(lambda x: self._split(x, self._keys()))
        return matmul(p, rows, columns).map(self._together)

    def pairs(self, keep: Tensor) -> Tensor:
        """Which of the band's pairs count: [B, n] -> [B, 1, n, 3 windows]."""
        keys, place = self._keys(clamped=False), torch.arange(self.length)
        mine = keys.reshape(self.blocks, -1).index_select(0, place // self.window)  # [n, 3 windows]
        near = ((mine - place[:, None]).abs() <= self.window) & (mine >= 0) & (mine < self.length)
        found = keep.index_select(1, mine.clamp(0, self.length - 1).reshape(-1))
        return (found.reshape(len(keep), *mine.shape) * near)[:, None]

    def _queries(self) -> Tensor:
        return torch.arange(self.blocks * self.window).clamp(max=self.length - 1)

    def _keys(self, clamped: bool = True) -> Tensor:
        """Of every block."""
        first = (torch.arange(self.blocks) - 1) * self.window
        places = (first[:, None] + torch.arange(BLOCKS * self.window)).reshape(-1)
        return places.clamp(0, self.length - 1) if clamped else places

    def _split(self, x: Tensor, places: Tensor) -> Tensor:
        """[B, h, n, columns] -> [B, h, blocks, places of a block, columns]"""
        chosen = x.index_select(2, places)
        return chosen.reshape(*x.shape[:2], self.blocks, len(places) // self.blocks, x.shape[3])

    def _together(self, x: Tensor) -> Tensor:
        """[B, h, blocks, window, columns] -> [B, h, n, columns]"""
        return x.reshape(*x.shape[:2], self.blocks * self.window, x.shape[4])[:, :, : self.length]
