"""Write format.json: some programs, and what any release of this format version makes of them.

Run from the repository root, after FORMAT_VERSION was raised: python tests/support/format_vectors.py
It records what the code at hand does, so it proves nothing by itself. It is there to be compared with later.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from parties import LABELS, SHAPE, some_tokens, tiny
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.families.config import Config
from mpcnet.models.families.loaded import TABLE, load
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.formats.fixed_point import WEIGHT_FRAC
from mpcnet.models.formats.planner import plan
from mpcnet.models.image_shape import Image
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.private import program
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.parameters import Parameter, encode_tokens, parameters
from mpcnet.models.private.prepare import random_tokens
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.shape import BertShape
from mpcnet.protocols.lookup import table_bits
from mpcnet.protocols.oracle import evaluate
from mpcnet.protocols.share import Shared
from mpcnet.protocols.suites import SUITES
from mpcnet.rounds import Part
from mpcnet.transport.handshake import COMPUTES, FORMAT_VERSION

PATH = Path(__file__).parents[1] / "vectors" / "format.json"
LENGTHS = [5, SHAPE.positions]  # tokens of the sentences of one request


def configs() -> Iterator[Config]:
    """Both suites, each softmax, an embedding and a classifier, and all that can be said of texts."""
    for suite, softmax in (("fast", "exact"), ("fast", "2relu"), ("secformer", "exact"), ("secformer", "2quad")):
        yield tiny().config(suite, softmax)
    for head in ("token-classification", "question-answering", "fill-mask"):
        yield tiny(LABELS if head == "token-classification" else 0, head=head).config()
    texts = Preprocessing("0" * 64, prompt="query: ")
    yield replace(tiny(LABELS).config(), labels=("no", "yes", "perhaps"), preprocessing=texts)
    yield of_images()


def of_images() -> Config:
    """A classifier of a few patches, with a register."""
    shape = BertShape(
        layers=1, hidden=32, heads=2, ffn=64, vocab=0, positions=6, types=0, norm="before", head="classification",
        labels=3, pooling="cls+patches", image=Image(8, 4, (-1.0,) * 3, (1.0,) * 3, registers=1),
    )  # fmt: skip
    found = random_checkpoint(shape, 1)
    folded = fold(found)
    ranges = calibrate(shape, folded, [random_tokens(found, 8, shape.positions)], found.sha256)
    return Config(shape, plan(shape, bounds(shape, folded), ranges, "exact", SUITES["fast"]), SUITES["fast"])


def record(config: Config) -> dict[str, str]:
    """Digests of a program: the agreed one, those of its plans, and that of all that its oracle opens."""
    plans, agreed = Plans(config), program.agreement(config)
    digests = {"program": agreed.digest, "load": plans.load.digest}
    digests["computes"] = bytes.fromhex(str(agreed.settings[COMPUTES]))
    for answer in program.answers(config):
        size = Size(len(LENGTHS), program.least_length(config, max(LENGTHS)), answer, audit=True)
        digests[answer] = plans.infer(size).digest
        digests[f"{answer} opened"] = opened(config, size)
    return {name: digest.hex() for name, digest in digests.items()}


def opened(config: Config, size: Size) -> bytes:
    """A digest of every word that is opened for one request, and of the answer, by an oracle with these weights."""
    digest = hashlib.sha256()
    words = {q.name: Shared(parameter(config, q), q.bits, q.frac, 0) for q in parameters(config)}

    def look(part: Part, count: int, word: Tensor) -> Tensor:
        digest.update(ring.pack(word, part.bits))
        return word

    model = evaluate(lambda p: load(p, config, words.items()), look)
    tokens = some_tokens(LENGTHS)
    some = (torch.arange(tokens.ids.numel()) * 7 % SHAPE.vocab).reshape(tokens.ids.shape) * tokens.mask
    places = torch.tensor([[1], [7]]) if config.shape.fills else None
    if config.shape.image is None:
        given = encode_tokens(config, replace(tokens, ids=some, types=some % 2, places=places))
    else:
        tokens = replace(tokens, mask=torch.ones(size.batch, size.length, dtype=torch.int64))
        given = [weights("pixels", (size.batch, size.length, *x.columns), x.frac, x.bits) for x in config.inputs]
    rows = [Shared(x, form.bits, form.frac, 0) for x, form in zip(given, config.inputs, strict=True)]
    answer = evaluate(lambda p: audited_inference(p, model, rows, tokens.mask, *size.kind), look)
    digest.update(ring.pack(answer.values.value, answer.values.bits))
    return digest.digest()


def parameter(config: Config, q: Parameter) -> Tensor:
    """Any of a model's parameters; the vocabulary's table is the bits of its words."""
    if q.name != TABLE:
        return weights(q.name, q.shape, q.frac, q.bits)
    shape, bits = config.shape, config.formats.table_bits
    return table_bits(weights(q.name, (shape.vocab, shape.hidden), q.frac, bits), bits)


def weights(name: str, shape: tuple[int, ...], frac: int, bits: int) -> Tensor:
    """Reproducible on every machine: near 1 for what scales, else within a quarter of 0."""
    count = int(np.prod(shape))
    raw = np.frombuffer(hashlib.shake_256(name.encode()).digest(8 * count), "<u8")
    small = (raw % 2 ** (frac - 1)).astype(np.int64) - 2 ** (frac - 2)
    whole = 2**WEIGHT_FRAC if name.endswith("gamma") else 0
    return ring.fit(torch.from_numpy(small + whole).reshape(shape), bits)


def main() -> None:
    rows = [{"program": program.to_dict(config), "digests": record(config)} for config in configs()]
    PATH.write_text(json.dumps({"version": FORMAT_VERSION, "programs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
