"""What a client has of the model: what makes tokens of its texts, and the table of embeddings, where that is public."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.deploy import TOKENIZER
from mpcnet.launch.party.node import Node
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.images.reader import reader_of
from mpcnet.models.preprocessing import tokenizer_digest
from mpcnet.models.private.prepare import checkpoint, tokenizer_source
from mpcnet.models.texts.tokens import Reader

Table: TypeAlias = Mapping[str, Tensor] | None


def reader(node: Node, model: str | None = None) -> Reader:
    """What makes tokens of texts for this program, or rows of pictures: the tokenizer or image processor beside our
    settings, or that of `model`.

    :raises LocalConfigError: there is none, or it is another than the one that the program was made with.
    """
    how = node.config.preprocessing
    if how is None:
        raise LocalConfigError("texts: want a program of a model with a tokenizer, got one of random weights")
    folder = node.settings.folder / TOKENIZER
    kind = "tokenizer" if node.config.shape.image is None else "image processor"
    if model is None and not folder.is_dir():
        raise LocalConfigError(
            f"{folder}: want the {kind} that mpcnet init puts there, got none; copy it from where the deployment "
            "was made, or name the model's directory with --model"
        )
    source = folder if model is None else Path(tokenizer_source(model))
    found = tokenizer_digest(source)
    if found != how.tokenizer_sha256:
        raise LocalConfigError(
            f"{source}: want the {kind} of the program, sha256 {how.tokenizer_sha256[:12]}..., got {found[:12]}...; "
            "leave out --model, name the directory of the model that the program was made with, or copy "
            f"{TOKENIZER}/ from the deployment's client again"
        )
    return reader_of(source, node.config.formats.longest, how, node.config.shape)


def public_table(node: Node, model: str | None) -> Table:
    """The public embedding table, if the program leaves the lookup to its clients.

    :raises LocalConfigError: it does, and there is no model, or another than the program's.
    """
    if node.config.embedding != "client":
        return None
    if model is None:
        raise LocalConfigError("infer: want --model, whose embedding table this program leaves to the client, got none")
    found = checkpoint(model)
    if found.shape != node.config.shape:
        raise LocalConfigError(f"{model}: want a model of the program's shape, got another; name the owner's model")
    return fold(found)
