"""Small encoders of every family with tokenizers of their kinds, or image processors, as save_pretrained writes them,
from a seed.

They know nothing. Their weights have the ranges of trained ones, so their answers differ and their scores are not flat:
what is compared is the private answer with transformers' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, PreTrainedTokenizerFast
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from mpcnet.models.float_model.huggingface import MODELS
from mpcnet.models.formats.calibration_batches import texts_by_kind
from mpcnet.models.head_shape import LABELLED, Head
from mpcnet.models.preprocessing import IMAGES
from mpcnet.models.texts.tokens import parts

SIZES: Mapping[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "max_position_embeddings": 130,
}  # fmt: skip
SETTINGS: Mapping[str, Mapping[str, Any]] = {  # by family: what differs from its configuration's defaults
    "albert": {"embedding_size": 32, "num_hidden_layers": 4},
    "bert": {},
    "camembert": {"type_vocab_size": 1},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    "deberta-v2": {
        "position_buckets": 16, "relative_attention": True, "share_att_key": True, "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm", "position_biased_input": False,
    },
    "dinov2": {"mlp_ratio": 2, "image_size": 32, "patch_size": 8},
    "dinov2_with_registers": {"mlp_ratio": 2, "image_size": 32, "patch_size": 8, "num_register_tokens": 2},
    "distilbert": {"hidden_dim": 128},
    "electra": {"embedding_size": 32},
    "gte": {},
    "modernbert": {"num_hidden_layers": 4, "local_attention": 16},
    "mpnet": {},
    "nomic_bert": {},
    "roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "vit": {"image_size": 32, "patch_size": 8},
    "xlm-roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
}  # fmt: skip
WORDPIECE = ("bert", "distilbert", "electra", "mpnet", "nomic_bert")
BYTES = ("modernbert", "roberta")  # byte-level BPE; the others have what sentencepiece makes
PIECES = 600  # of a vocabulary
LABELS = 3
EMBEDDED, LARGE = 0.3, 2.5  # deviation of embeddings; some columns of LayerNorms, as trained ones have


def save_seeded(folder: Path, kind: str, head: Head = "embedding", seed: int = 0) -> Path:
    """A family's encoder, or with a head on it, and a tokenizer or an image processor of its own."""
    if kind in IMAGES:
        return _save_images(folder, kind, head, seed)
    tokenizer = make_tokenizer(kind)
    names = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")}
    more: dict[str, Any] = {"num_labels": LABELS} if head in LABELLED else {}
    config = AutoConfig.for_model(kind, **{**SIZES, **SETTINGS[kind], **names, **more, "vocab_size": len(tokenizer)})
    model = MODELS[head].from_config(config).eval()
    draw(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _save_images(folder: Path, kind: str, head: Head, seed: int) -> Path:
    own = SETTINGS[kind]
    sizes = {name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    sizes |= {"intermediate_size": SIZES["intermediate_size"]} if kind == "vit" else {}
    labelled = head == "classification"
    config = AutoConfig.for_model(kind, **sizes, **own, **({"num_labels": LABELS} if labelled else {}))
    model = (AutoModelForImageClassification if labelled else AutoModel).from_config(config).eval()
    draw(model, seed)
    model.save_pretrained(folder)
    size = {"height": own["image_size"], "width": own["image_size"]}
    ViTImageProcessorPil(size=size).save_pretrained(folder)
    return folder


def draw(model: torch.nn.Module, seed: int) -> None:
    """Weights with the ranges of trained ones: LayerNorms with columns that stand out, attention that is not flat."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        norm = "norm" in name.lower() and name.endswith("weight")
        table = "embedding" in name and "project" not in name and "mapping" not in name
        if value.ndim == 1:
            noise = noise * 0.15 + float(norm)
            if norm:
                noise[::11] *= LARGE
        else:
            noise = noise * (EMBEDDED if table else 1.2 / value.shape[1] ** 0.5)
        value.data.copy_(noise)


def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """WordPiece, byte-level BPE or unigram pieces of English texts, with the special tokens of the family."""
    first, last, unknown, padding, masked = ("[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]")
    if kind not in WORDPIECE and kind != "albert":
        first, last, unknown, padding, masked = ("<s>", "</s>", "<unk>", "<pad>", "<mask>")
    special = [first, padding, last, unknown, masked]
    made = _trained(kind, special, unknown)
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:{int(kind in WORDPIECE)} {last}:{int(kind in WORDPIECE)}",
        special_tokens=[(name, special.index(name)) for name in (first, last)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, cls_token=first, bos_token=first, sep_token=last, eos_token=last, unk_token=unknown,
        pad_token=padding, mask_token=masked, model_max_length=SIZES["max_position_embeddings"] - 2,
        model_input_names=["input_ids", "attention_mask"] + (["token_type_ids"] if kind in WORDPIECE[:3:2] else []),
    )  # fmt: skip


def _trained(kind: str, special: list[str], unknown: str) -> Tokenizer:
    texts = [part for text in texts_by_kind()["english"] for part in parts(text)]
    if kind in WORDPIECE:
        made = Tokenizer(models.WordPiece(unk_token=unknown))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=PIECES, special_tokens=special)
    elif kind in BYTES:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=PIECES, special_tokens=special, initial_alphabet=alphabet)
    else:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=PIECES, special_tokens=special, unk_token=unknown)
    made.train_from_iterator(texts, trainer)
    return made
