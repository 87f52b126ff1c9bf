"""Private models of images: from the pixels of patches to the rows that layers work on, and what a classifier reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mpcnet.models.families.loaded import POSITIONS, Model, affine
from mpcnet.models.formats import fixed_point as N
from mpcnet.protocols.arith import linear
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared


async def embed_patches(p: Party, model: Model, pixels: Shared) -> tuple[Shared, Shared]:
    """Patches times a matrix, and a row for each place: [B, n, columns] -> [B, n, d], centred.

    Once as a LayerNorm's input, and once as the residual beside it. The first rows of `pixels` are no patches, and
    nobody looks at them: whatever a client shares there, these places have the model's own rows.

    Rounds   1
    Sends    6 bytes a pixel's channel each way
    Offline  6 bytes an element of the result
    Error    rounding of pixels to 2^-12 and of the matrix to 2^-20 (Formats.patch_frac)
    Hiding   pixels are opened under a fresh mask of 48 bits, uniform over all that is sent
    Source   docs/protocol.md, "A BERT"; [ViT]
    """
    image, formats = model.config.shape.image, model.config.formats
    assert image is not None
    opened = await p.open_one(pixels.take(np.s_[:, image.lead :]))
    mapped = linear(p, opened, model.weights["patch.weight"])
    places, batch = model.shared[POSITIONS], pixels.shape[0]
    patches = mapped + places.take(slice(image.lead, None))
    lead = places.value[: image.lead].expand(batch, image.lead, places.shape[1])
    rows = replace(patches, value=torch.cat([lead, patches.value], 1))
    centred = p.rescale(rows, formats.table_frac).reduce(formats.table_bits)
    return centred, p.rescale(rows, formats.stream_frac).reduce(N.CENTRED_BITS)


async def classify_image(p: Party, model: Model, normal: Shared) -> Shared:
    """Logits of the class token, or of it and the sum of the patches: [B, n, d] -> [B, labels] in a ring of 30 bits.

    The last LayerNorm's gamma and beta, and what makes a mean of the sum, are in the classifier's map. No logit can
    leave its ring, whatever the image (mpcnet.models.pooling.too_large), so nothing is audited.

    Rounds   1
    Sends    6 bytes a column of each pooling, each way
    Offline  6 bytes a logit
    Error    that of N times the map's norm, and rounding of the map to 2^-22
    Hiding   what is pooled is opened under a fresh mask of 48 bits, uniform over all that is sent
    """
    shape = model.config.shape
    assert shape.image is not None
    pooled = [normal.take(np.s_[:, 0])]
    if len(shape.kinds) > 1:
        pooled.append(normal.take(np.s_[:, shape.image.lead :]).sum(1))
    both, p = replace(normal, value=torch.cat([x.value for x in pooled], -1)), p.at("classifier")
    return p.rescale(affine(p, model, "classifier", await p.open_one(both)), N.LOGIT_FRAC)
