"""Who watches the plaintext model: each intermediate value, of valid tokens only.

`observe(site, value)` sees every one; inside the encoder, what it returns (if not None) takes the value's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Observe: TypeAlias = Callable[[str, Tensor], Tensor | None]


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """Hands the valid part of each value to `observe`, and gives back what to go on with. mask is bool [batch, seq]."""

    mask: Tensor
    observe: Observe | None

    def rows(self, site: str, value: Tensor) -> Tensor:
        """[batch, seq, ...]"""
        return self._show(site, value, self.mask)

    def heads(self, site: str, value: Tensor) -> Tensor:
        """[batch, head, seq, ...]"""
        return self.rows(site, value.transpose(1, 2)).transpose(1, 2)

    def pairs(self, site: str, value: Tensor, near: Tensor | None = None) -> Tensor:
        """[batch, head, query, key]; shown as [pair, head], those that are `near`."""
        valid = valid_pairs(self.mask) if near is None else valid_pairs(self.mask) & near
        return self._show(site, value.permute(0, 2, 3, 1), valid).permute(0, 3, 1, 2)

    def _show(self, site: str, value: Tensor, valid: Tensor) -> Tensor:
        if self.observe is None:
            return value
        if bool(valid.all()):  # no padding: picking values by a mask takes several times as long as the model
            changed = self.observe(site, value.reshape(-1, *value.shape[valid.dim() :]))
            return value if changed is None else changed.reshape(value.shape)
        changed = self.observe(site, value[valid])
        if changed is None:
            return value
        value = value.clone()
        value[valid] = changed
        return value


def valid_pairs(mask: Tensor) -> Tensor:
    """Where query and key are both valid: bool [batch, seq] -> [batch, query, key]."""
    return mask[:, :, None] & mask[:, None, :]
