"""JinaBERT v2 written from its description (arXiv 2310.19923; ALiBi: O. Press et al., ICLR 2022), and small ones in
folders. transformers has no code for it, and what its checkpoints bring is not run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, relu

SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 48,
    "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    "feed_forward_type": "geglu", "position_embedding_type": "alibi", "model_type": "bert",
    "architectures": ["JinaBertForMaskedLM"],
    "auto_map": {
        "AutoConfig": "jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig",
        "AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel",
    },
}  # fmt: skip


def save_jina(folder: Path, **more: Any) -> dict[str, Tensor]:
    """Weights with the ranges of trained ones; what they are by name."""
    config = SIZES | more
    d, ffn = config["hidden_size"], config["intermediate_size"]
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], d),
        "embeddings.token_type_embeddings.weight": (2, d),
        "embeddings.LayerNorm.weight": (d,), "embeddings.LayerNorm.bias": (d,),
        "pooler.dense.weight": (d, d), "pooler.dense.bias": (d,),
    }  # fmt: skip
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            sizes |= {f"{layer}attention.{name}.weight": (d, d), f"{layer}attention.{name}.bias": (d,)}
        sizes |= {f"{layer}mlp.gated_layers.weight": (2 * ffn, d), f"{layer}mlp.wo.weight": (d, ffn)}
        sizes[f"{layer}mlp.wo.bias"] = (d,)
        for name in ("attention.output.LayerNorm", "mlp.layernorm"):
            sizes |= {f"{layer}{name}.weight": (d,), f"{layer}{name}.bias": (d,)}
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for name, size in sizes.items():
        noise = torch.randn(size, generator=generator)
        norm = "norm" in name.lower() and name.endswith("weight")
        scale = 0.3 if "embeddings." in name and len(size) == 2 else 0.15 if len(size) == 1 else 1.2 / size[-1] ** 0.5
        tensors[name] = noise * scale + float(norm)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return tensors


def hidden_states(tensors: dict[str, Tensor], ids: Tensor, types: Tensor, mask: Tensor, **more: Any) -> Tensor:
    """[batch, seq] -> [batch, seq, d], in float64."""
    config, raw = SIZES | more, {name: value.double() for name, value in tensors.items()}
    heads, eps, n = config["num_attention_heads"], config["layer_norm_eps"], ids.shape[1]

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, x.shape[-1:], raw[f"{name}.weight"], raw[f"{name}.bias"], eps)

    def dense(x: Tensor, name: str) -> Tensor:
        return linear(x, raw[f"{name}.weight"], raw.get(f"{name}.bias"))

    x = raw["embeddings.word_embeddings.weight"][ids] + raw["embeddings.token_type_embeddings.weight"][types]
    x = norm(x, "embeddings.LayerNorm")
    place = torch.arange(n)
    bias = -head_slopes(heads)[:, None, None] * (place[:, None] - place).abs()
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        q, k, v = (
            dense(x, f"{layer}attention.self.{name}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + bias
        weights = scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf).softmax(-1)
        context = (weights @ v).transpose(1, 2).flatten(2)
        x = norm(x + dense(context, f"{layer}attention.output.dense"), f"{layer}attention.output.LayerNorm")
        active, other = dense(x, f"{layer}mlp.gated_layers").chunk(2, -1)
        active = relu(active) if config["feed_forward_type"] == "reglu" else gelu(active)
        x = norm(x + dense(active * other, f"{layer}mlp.wo"), f"{layer}mlp.layernorm")
    return x


def head_slopes(heads: int) -> Tensor:
    """A geometric sequence that begins with its own ratio, for a power of two; else with every other one of the next."""
    if heads & (heads - 1) == 0:
        return 2.0 ** (-8 / heads * torch.arange(1, heads + 1, dtype=torch.float64))
    below = 1 << (heads.bit_length() - 1)
    return torch.cat([head_slopes(below), head_slopes(2 * below)[::2][: heads - below]])
