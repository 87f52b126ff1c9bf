"""Our names of a model's parameters, and their sizes, by its description."""

from __future__ import annotations

from mpcnet.models.head_shape import TOKEN_LINEARS
from mpcnet.models.shape import BertShape


def parameter_sizes(shape: BertShape) -> dict[str, tuple[int, ...]]:
    """Every parameter of a checkpoint of this shape under our names; linear weights are [out, in]."""
    d, ffn, narrow = shape.hidden, shape.ffn, shape.embedded
    sizes: dict[str, tuple[int, ...]] = {}
    if (image := shape.image) is not None:
        sizes |= {"patch.weight": (d, image.columns), "embedding.class.weight": (1, d)}
        sizes |= {"embedding.register.weight": (image.registers, d)} if image.registers else {}
        sizes["embedding.position.weight"] = (image.rows - image.registers, d)
    else:
        sizes["embedding.word.weight"] = (shape.vocab, narrow)
        if shape.placed:
            sizes["embedding.position.weight"] = (shape.skipped_positions + shape.positions, narrow)
    sizes["embedding.norm.weight"] = (narrow,)
    if shape.types:
        sizes["embedding.type.weight"] = (shape.types, narrow)
    if shape.embedding_width:
        sizes["projection.weight"] = (d, narrow)
    for i in sorted({shape.weights_of(i) for i in range(shape.layers)}):
        sizes |= {f"layer{i}.{name}.weight": (d, d) for name in ("query", "key", "value", "out")}
        sizes |= {f"layer{i}.up.weight": (ffn, d), f"layer{i}.down.weight": (d, ffn)}
        if shape.own_distances:
            sizes |= {f"layer{i}.distance.{name}.weight": (d, d) for name in ("query", "key")}
        if shape.gated:
            sizes[f"layer{i}.gate.weight"] = (ffn, d)
        sizes |= {f"layer{i}.out.norm.weight": (d,), f"{norm_behind(shape, i)}.weight": (d,)}
    if shape.head == "classification":
        sizes |= {"pooler.weight": (d, d)} if shape.pooler else {}
        sizes["classifier.weight"] = (shape.labels, d * len(shape.kinds))
        sizes |= {"pooler.norm.weight": (d,)} if shape.head_norm else {}
    if shape.transforms:
        sizes |= {"transform.weight": (shape.decoded, d), "transform.norm.weight": (shape.decoded,)}
    if (last := TOKEN_LINEARS.get(shape.head)) is not None:
        sizes[f"{last}.weight"] = (shape.columns, shape.decoded)
    tables = tuple(f"embedding.{name}." for name in ("word", "position", "type", "class", "register"))
    rows = d * len(shape.kinds)
    for i, dense in enumerate(shape.dense):
        sizes[f"dense{i}.weight"] = (dense.columns, rows)
        rows = dense.columns
    sizes |= {name[:-6] + "bias": size[:1] for name, size in sizes.items() if not name.startswith(tables)}
    if shape.relative_buckets:
        sizes["relative.weight"] = (shape.relative_buckets, shape.heads)
    if shape.distances:
        sizes["distance.weight"] = (2 * shape.distances, d)
        sizes |= {} if shape.own_distances else {"distance.norm.weight": (d,), "distance.norm.bias": (d,)}
    return sizes


def norm_behind(shape: BertShape, layer: int) -> str:
    """The LayerNorm behind some layer's weights."""
    last = shape.norm == "before" and layer == shape.layers - 1
    return "final.norm" if last else f"layer{layer}.down.norm"
