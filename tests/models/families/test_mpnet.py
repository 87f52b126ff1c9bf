"""MPNet: names, position ids and relative position bias as transformers has them, in the float and the private model."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from mpnets import config, small_mpnet, small_tokens
from private import TINY, Private, private_model
from safetensors.torch import load_file, save_file
from transformers import MPNetForMaskedLM, MPNetForSequenceClassification, MPNetModel
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.families.bert import BERT
from mpcnet.models.checkpoints.families.mpnet import MPNET
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.checkpoints.parameter_names import parameter_name
from mpcnet.models.checkpoints.parameter_sizes import parameter_sizes
from mpcnet.models.float_model.huggingface import huggingface_hidden, huggingface_logits
from mpcnet.models.float_model.reference import classify, embed, forward
from mpcnet.models.position_bias import BUCKETS, bias, buckets
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.shape import BertShape

SHAPE = replace(TINY, types=0, eps=1e-5, relative_buckets=BUCKETS, skipped_positions=2)


@cache
def small(labels: int = 0):
    with TemporaryDirectory() as folder:
        checkpoint = small_mpnet(Path(folder), labels)
        hidden = huggingface_logits if labels else huggingface_hidden
        return checkpoint, hidden(checkpoint, small_tokens())


def test_buckets_are_transformers() -> None:
    position = torch.arange(600)
    want = MPNetEncoder.relative_position_bucket(position[None, :] - position[:, None])
    assert torch.equal(buckets(600), want)
    assert set(want.unique().tolist()) == set(range(BUCKETS)) - {16}  # distance 0 counts as before the query


def test_bias_is_picked_by_head_query_and_key() -> None:
    table = torch.arange(2.0 * BUCKETS).reshape(BUCKETS, 2)
    picked = bias(table, 12)
    assert picked.shape == (2, 12, 12)
    for head, query, key in ((0, 3, 3), (1, 3, 4), (1, 11, 0), (0, 0, 11)):
        assert picked[head, query, key] == table[buckets(12)[query, key], head]


def test_every_hugging_face_name_is_known() -> None:
    classifier = dict(head="classification", labels=3, pooling="first")
    for shape, model in (
        (replace(SHAPE, positions=32), MPNetModel(config())),
        (replace(SHAPE, positions=32, **classifier), MPNetForSequenceClassification(config(num_labels=3))),
    ):
        sizes = {parameter_name(name, MPNET): tuple(value.shape) for name, value in model.named_parameters()}
        unused = {} if shape.labels else {"pooler.weight": (32, 32), "pooler.bias": (32,)}
        assert sizes == parameter_sizes(shape) | unused
    assert parameter_name("encoder.layer.0.attention.self.query.weight", MPNET) is None
    assert parameter_name("encoder.layer.0.attention.attn.q.weight", BERT) is None


def test_shape_comes_from_the_configuration() -> None:
    assert small()[0].shape == SHAPE
    with pytest.raises(LocalConfigError, match="relative_buckets: want 0 or 32, got 16"):
        replace(SHAPE, relative_buckets=16)
    assert BertShape.from_dict(SHAPE.to_dict()) == SHAPE


def test_float_model_equals_hugging_face() -> None:
    checkpoint, want = small()
    tokens, folded = small_tokens(), fold(checkpoint)
    valid = tokens.mask.bool()
    got = forward(checkpoint.shape, folded, tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[valid].abs().max() < 1e-9
    without = fold(checkpoint) | {"relative.bias": torch.zeros(BUCKETS, 2, dtype=torch.float64)}
    flat = forward(checkpoint.shape, without, tokens.ids, tokens.types, tokens.mask)
    assert (flat - want)[valid].abs().max() > 0.1  # so the bias is part of what was compared


def test_classifier_equals_hugging_face() -> None:
    checkpoint, want = small(3)
    tokens = small_tokens()
    got = classify(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert want.std() > 0.1
    assert (got - want).abs().max() < 1e-9


def test_padding_changes_nothing() -> None:
    folded, tokens = fold(small()[0]), small_tokens()
    together = embed(SHAPE, folded, tokens.ids, tokens.types, tokens.mask)
    alone = embed(SHAPE, folded, *(x[1:2, :6] for x in (tokens.ids, tokens.types, tokens.mask)))
    assert (together[1] - alone[0]).abs().max() < 1e-12


def test_a_token_has_no_type() -> None:
    tokens = small_tokens()
    with pytest.raises(LocalInputError, match=r"types in 0 \.\.\. 0"):
        embed(SHAPE, fold(small()[0]), tokens.ids, tokens.types + 1, tokens.mask)


def test_padding_before_a_token_is_refused() -> None:
    """transformers numbers the tokens behind it as if it were not there."""
    tokens = small_tokens()
    with pytest.raises(LocalInputError, match="want padding after the tokens"):
        embed(SHAPE, fold(small()[0]), tokens.ids, tokens.types, tokens.mask.flip(1))


@cache
def private(suite: str, softmax: str, labels: int = 0, embedding: str = "private") -> Private:
    return private_model(small(labels)[0], [small_tokens()], suite, softmax, embedding)  # type: ignore[arg-type]


@pytest.mark.parametrize("suite", ["secformer", "secformer-v1", "fast"])
@pytest.mark.parametrize("softmax", ["exact", "2quad"])
def test_private_equals_float(suite: str, softmax: str) -> None:
    """`run` also checks rounds and bytes, offline and online, against the plan."""
    result, whole, floats = private(suite, softmax).run(small_tokens())
    assert (result - floats).abs().max() < 0.02
    assert (result - whole).abs().max() < 0.02
    assert torch.cosine_similarity(result, floats).min() > 0.9995
    if softmax == "exact":
        published = small()[1][0].mean(0)
        assert torch.cosine_similarity(result[0], published, dim=0) > 0.9995


def test_private_classifier_and_client_side_embedding() -> None:
    logits, _, floats = private("fast", "exact", labels=3).run(small_tokens())
    assert (logits - floats).abs().max() < 0.02
    model = private("fast", "exact", embedding="client")
    result, _, floats = model.run(small_tokens())
    assert not model.loaded.results[0].table
    assert (result - floats).abs().max() < 0.02


def test_the_bias_is_shared_and_costs_nothing() -> None:
    model = private("fast", "exact")
    loaded = model.loaded.results[0]
    assert "relative.bias" in loaded.shared and "relative.bias" not in loaded.opened
    flat = replace(model.config, shape=replace(model.config.shape, relative_buckets=0))
    for size in (Size(1, 5), Size(2, 24)):
        assert Plans(flat).infer(size).ledger.operations == model.plans.infer(size).ledger.operations
    assert Plans(flat).load.ledger.operations == model.plans.load.ledger.operations


def edited(folder: Path, **changes: object) -> Path:
    small_mpnet(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match="relative_attention_num_buckets: want 32, got 64"):
        load_checkpoint(edited(tmp_path / "buckets", relative_attention_num_buckets=64))
    with pytest.raises(LocalConfigError, match=r"architectures: want MPNetModel or .* got BertModel"):
        load_checkpoint(edited(tmp_path / "bert", architectures=["BertModel"]))
    MPNetForMaskedLM(config()).save_pretrained(tmp_path / "head")
    head = tmp_path / "head" / "config.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"architectures": ["MPNetModel"]}))
    with pytest.raises(LocalConfigError, match="5 parameters the configuration does not have: decoder"):
        load_checkpoint(tmp_path / "head")


def test_a_masked_model_without_its_head_and_with_an_old_buffer_loads(tmp_path: Path) -> None:
    """As the published all-mpnet-base-v2 is."""
    folder = edited(tmp_path, architectures=["MPNetForMaskedLM"])
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"embeddings.position_ids": torch.arange(26)[None]}, folder / "model.safetensors")
    assert load_checkpoint(folder).sha256 == small()[0].sha256


def test_two_parameters_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = edited(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    twice = {"classifier.dense.weight": tensors["pooler.dense.weight"].clone()}
    save_file(tensors | twice, folder / "model.safetensors")
    with pytest.raises(LocalConfigError, match=r"1 unknown parameters: (classifier|pooler)\.dense\.weight"):
        load_checkpoint(folder)


def test_random_weights_have_a_bias() -> None:
    folded = fold(random_checkpoint(SHAPE, 1))
    assert folded["relative.bias"].shape == (BUCKETS, 2)
    assert folded["embedding.position"].shape == (24, 32)
    assert folded["embedding.table"].shape == (50, 32)
