"""A request's whole program: the answer, and with an audit one bit a sentence that says if it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from mpcnet.models.families.bert import infer
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.families.loaded import Model
from mpcnet.protocols.audit import Audit
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """Shares of the result [B, columns], and of the audit's bits [B, 40]: some of a row are 1 if one left its range."""

    values: Shared
    out_of_range: Bits | None = None


async def audited_inference(
    p: Party, model: Model, tokens: Sequence[Shared], keep: Tensor, answer: AnswerKind = "logits", audit: bool = True,
    extent: int = 0,
) -> Response:  # fmt: skip
    """:func:`mpcnet.models.families.bert.infer`, and the verdict of a :class:`mpcnet.protocols.audit.Audit` on its
    values; without `audit`, the answer alone."""
    if not audit:
        return Response(await infer(p, model, tokens, keep, answer, extent))
    watching = Audit(keep)
    values = await infer(replace(p, audit=watching), model, tokens, keep, answer, extent)
    return Response(values, await watching.verdict(p))
