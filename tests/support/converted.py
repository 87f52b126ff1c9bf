"""Folders of transformers' as GGUF files, as llama.cpp's converter writes the encoders among them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.torch import load_file
from small_models import save_weights
from transformers import AutoConfig, AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

from mpcnet.models.checkpoints.gguf_tokenizer import SAMPLE
from mpcnet.models.preprocessing import TOKENIZER_FILES

ARCHITECTURES: Mapping[str, Any] = {
    "bert": gguf.MODEL_ARCH.BERT, "distilbert": gguf.MODEL_ARCH.BERT, "roberta": gguf.MODEL_ARCH.BERT,
    "xlm-roberta": gguf.MODEL_ARCH.BERT, "camembert": gguf.MODEL_ARCH.BERT, "nomic_bert": gguf.MODEL_ARCH.NOMIC_BERT,
    "modernbert": gguf.MODEL_ARCH.MODERN_BERT,
}  # fmt: skip
CHOPPED = ("roberta", "xlm-roberta")  # of CamemBERT the converter knows no positions that are skipped
DROPPED = ("pooler.dense.weight", "pooler.dense.bias")
PREFIXES = ("roberta.", "distilbert.", "model.", "nomic_bert.", "bert.")


def convert(folder: Path, kind: str = "F32", **metadata: Any) -> Path:
    """Matrices in this type, the rest as float32; names by gguf's own map. The safetensors go away.

    `metadata` is written in the place of what the converter says, or beside it; None: not at all.
    """
    config = AutoConfig.from_pretrained(folder)
    arch = ARCHITECTURES[config.model_type]
    name = metadata.pop("architecture", gguf.MODEL_ARCH_NAMES[arch])
    known = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    path, safe = folder / f"model-{kind}.gguf", folder / "model.safetensors"
    writer = gguf.GGUFWriter(path, name)
    for key, value in (_metadata(config) | metadata).items():
        _add(writer, f"{name}.{key}", value)
    for theirs, value in load_file(safe).items():
        bare = next((theirs.removeprefix(start) for start in PREFIXES if theirs.startswith(start)), theirs)
        if bare in DROPPED:
            continue
        if bare == "embeddings.position_embeddings.weight" and config.model_type in CHOPPED:
            value = value[config.pad_token_id + 1 :]
        if "roberta" not in config.model_type and bare.startswith("classifier."):
            bare = bare.replace("classifier.", "classifier.out_proj.")
        values = (value.squeeze() if value.numel() > 1 else value).numpy()  # older converters do
        stored = gguf.GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
        data = values if stored == gguf.GGMLQuantizationType.F32 else quantised(values, stored)
        writer.add_tensor(known.get_name(bare, (".weight", ".bias")), data, raw_dtype=stored)
    if (folder / "tokenizer.json").is_file() or (folder / "sentencepiece.bpe.model").is_file():
        _add_words(writer, folder, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    safe.unlink()
    return path


def strip(folder: Path) -> None:
    """Take a tokenizer's files away."""
    for name in TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)


def save_pieces(folder: Path, lines: Sequence[str]) -> Path:
    """A small XLM-RoBERTa and its sentencepiece model, as hub repositories have them."""
    from sentencepiece import SentencePieceTrainer

    rules, model = folder.with_suffix(".tsv"), io.BytesIO()
    rules.write_text(
        "9\t20\nA\t20\nFB01\t66 69\nFF21\t41\nD\t20\n300\t\n"
    )  # tabs, a ligature, a wide letter, an accent
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=600, model_type="unigram", minloglevel=2,
        num_threads=1, normalization_rule_tsv=str(rules), unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
    )  # fmt: skip
    save_weights(
        folder, lambda config: XLMRobertaModel(XLMRobertaConfig(**config.to_diff_dict())), words=602, pad_token_id=1
    )
    (folder / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    path = folder / "tokenizer.json"
    known = json.loads(path.read_text())
    known["added_tokens"][-1]["lstrip"] = True  # as the published ones have it
    path.write_text(json.dumps(known))
    return folder


def _metadata(config: Any) -> dict[str, Any]:
    skipped = config.pad_token_id + 1 if config.model_type in CHOPPED else 0
    eps = {"distilbert": 1e-12, "modernbert": getattr(config, "norm_eps", 0.0)}
    found = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings - skipped,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.layer_norm_epsilon": float(eps.get(config.model_type) or config.layer_norm_eps),
        "attention.causal": False,
    }
    ropes = getattr(config, "rope_parameters", None)
    if config.model_type == "nomic_bert":
        found["rope.freq_base"] = float(ropes["rope_theta"])
    if config.model_type == "modernbert":
        found |= {
            "rope.freq_base": float(ropes["full_attention"]["rope_theta"]),
            "rope.freq_base_swa": float(ropes["sliding_attention"]["rope_theta"]),
            "rope.scaling.type": "none",
            "attention.sliding_window": config.local_attention,
            "attention.sliding_window_pattern": 3,
        }
    return found


def _add(writer: Any, name: str, value: Any) -> None:
    if value is None:
        return
    kinds = {bool: writer.add_bool, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
    kinds.get(type(value), writer.add_uint32)(name, value)


def quantised(values: Any, kind: Any) -> Any:
    """gguf has no encoder for K-quants; any bytes are one, and these are small and differ."""
    if kind.name != "Q4_K":
        return gguf.quants.quantize(values, kind)
    shape = gguf.quant_shape_to_byte_shape(values.shape, kind)
    blocks = np.random.default_rng(3).integers(0, 64, (int(np.prod(shape)) // 144, 144), dtype=np.uint8)
    blocks[:, :4] = np.frombuffer(np.array([2e-4, 1e-4], np.float16).tobytes(), np.uint8)
    return blocks.reshape(shape)


def fingerprint(folder: Path) -> str:
    """What the converter tells tokenizers apart by."""
    return hashlib.sha256(str(AutoTokenizer.from_pretrained(folder).encode(SAMPLE)).encode()).hexdigest()


NAMES = {"0876d13b50744004aa9aeae05e7b0647eac9d801b5ba4668afc01e709c15e19f": "jina-v2-en"}


def _add_words(writer: Any, folder: Path, config: Any) -> None:
    """Whatever the converter says of the tokenizer in a folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    special = gguf.SpecialVocab(folder, load_merges=model["type"] == "BPE", n_vocab=None)
    writer.add_token_type_count(getattr(config, "type_vocab_size", 1))
    if model["type"] == "Unigram":
        _add_pieces(writer, folder, config)
        special.add_to_gguf(writer, quiet=True)
        return
    words, types = [], []
    names, added = {place: word for word, place in tokenizer.get_vocab().items()}, tokenizer.added_tokens_decoder
    for place in range(config.vocab_size):
        word = names.get(place)
        kind = gguf.TokenType.UNUSED if word is None else gguf.TokenType.NORMAL
        if place in added:
            kind = gguf.TokenType.CONTROL if added[place].special else gguf.TokenType.USER_DEFINED
        words.append(f"[PAD{place}]" if word is None else word)
        types.append(kind)
    if model["type"] == "WordPiece":
        words = [_phantom(word, kind) for word, kind in zip(words, types, strict=True)]
    writer.add_tokenizer_model("bert" if model["type"] == "WordPiece" else "gpt2")
    writer.add_tokenizer_pre(NAMES.get(fingerprint(folder), "roberta-bpe"))
    writer.add_token_list(words)
    writer.add_token_types(types)
    special.add_to_gguf(writer, quiet=True)


def _phantom(word: str, kind: Any) -> str:
    if kind == gguf.TokenType.CONTROL:
        return word
    return word[2:] if word.startswith("##") else "\u2581" + word


def _add_pieces(writer: Any, folder: Path, config: Any) -> None:
    """sentencepiece's own, put where XLM-RoBERTa has them; its mask has no name there."""
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

    data = (folder / "sentencepiece.bpe.model").read_bytes()
    whole = sentencepiece_model_pb2.ModelProto()
    whole.ParseFromString(data)
    pieces = SentencePieceProcessor(model_proto=data)
    normal, control, unknown, unused = 1, 3, 2, 5
    words = [f"[PAD{place}]" for place in range(config.vocab_size)]
    scores, types = [-10000.0] * config.vocab_size, [unused] * config.vocab_size
    for place in range(pieces.vocab_size()):
        kind = control if pieces.IsControl(place) else unknown if pieces.IsUnknown(place) else normal
        words[place], scores[place], types[place] = pieces.IdToPiece(place), pieces.GetScore(place), kind
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<s>", "<pad>", "</s>", "<unk>", *words[3:-1]])
    writer.add_token_scores([0.0] * 4 + scores[3:-1])
    writer.add_token_types([control, control, control, unknown, *types[3:-1]])
    writer.add_add_space_prefix(whole.normalizer_spec.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(whole.normalizer_spec.remove_extra_whitespaces)
    writer.add_precompiled_charsmap(whole.normalizer_spec.precompiled_charsmap)
