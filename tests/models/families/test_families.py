"""Every family: the float model is transformers', and the private one is the float model, at its planned cost."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import encoders
import pytest
import small_models
import torch
from encoders import save_encoder, small_encoder, small_tokens
from private import Private, audit, private_model, share_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
)
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.families import FAMILIES
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import huggingface_hidden, huggingface_logits
from mpcnet.models.float_model.reference import answer, classify, forward
from mpcnet.models.formats import bounds as bounds_module
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.position_bias import distance_rows
from mpcnet.models.private.known_answer import known_answer
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.division import RowRange

ROTARY = ("gte", "modernbert", "nomic_bert")
SINGLE = (*ROTARY, "deberta", "deberta-v2")  # of whose angles, or factor of scores, transformers has float32
POST_NORM = ("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta")


@cache
def small(kind: str, labels: int = 0, **more: Any) -> tuple[Checkpoint, Tokens, Tensor]:
    """A model, tokens for it, and transformers' answer, [batch, seq, hidden] or [batch, labels]."""
    with TemporaryDirectory() as folder:
        checkpoint = small_encoder(Path(folder), kind, labels, **more)
        tokens = small_tokens(checkpoint.shape.types)
        run = huggingface_logits if labels else huggingface_hidden
        return checkpoint, tokens, run(checkpoint, tokens)


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_float_model_is_transformers(kind: str) -> None:
    checkpoint, tokens, want = small(kind)
    valid = tokens.mask.bool()
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[valid].abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    assert want[valid].std() > 0.3


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_classifier_is_transformers(kind: str) -> None:
    checkpoint, tokens, want = small(kind, 3)
    got = classify(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want).abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    assert want.std() > 0.1


@cache
def private(kind: str, suite: str, labels: int = 0, **more: Any) -> Private:
    checkpoint, tokens, _ = small(kind, labels, **more)
    return private_model(checkpoint, [tokens], suite, "exact")


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_private_is_float(kind: str) -> None:
    """`run` also checks rounds and bytes, offline and online, against the plan."""
    result, whole, floats = private(kind, "fast").run(small(kind)[1])
    assert torch.cosine_similarity(result, floats).min() > 0.9998
    assert (result - whole).abs().max() < 0.02
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("kind", (*POST_NORM, "modernbert"))
def test_private_classifier_is_float(kind: str) -> None:
    result, _, floats = private(kind, "fast", 3).run(small(kind, 3)[1])
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "silu", "relu", "tanh"])
def test_other_activations(activation: str) -> None:
    checkpoint, tokens, want = small("bert", hidden_act=activation)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9
    result, whole, floats = private("bert", "fast", hidden_act=activation).run(tokens)
    assert (result - floats).abs().max() < 0.02
    assert (result - whole).abs().max() < 0.02


def test_electra_in_another_suite() -> None:
    """GeLU in a head is the suite's own."""
    result, _, floats = private("electra", "secformer", 3).run(small("electra", 3)[1])
    assert (result - floats).abs().max() < 0.02


def test_albert_loads_its_layers_once() -> None:
    """All layers but the first have the same weights before them, so the same folded ones."""
    checkpoint, tokens, want = small("albert", num_hidden_layers=6, num_hidden_groups=2)
    assert checkpoint.shape.shared == (0, 0, 0, 1, 1, 1)
    folded = fold(checkpoint)
    got = forward(checkpoint.shape, folded, tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9
    assert {name.partition(".")[0] for name in folded if name.endswith("qkv.weight")} == {
        "layer0", "layer1", "layer3", "layer4"
    }  # fmt: skip
    assert {name.partition(".")[0] for name in folded if name.endswith("up.weight")} == {"layer0", "layer3"}
    result, _, floats = private("albert", "fast", num_hidden_layers=6, num_hidden_groups=2).run(tokens)
    assert (result - floats).abs().max() < 0.02


def test_electra_of_one_width_has_no_map() -> None:
    checkpoint, tokens, want = small("electra", embedding_size=32)
    assert checkpoint.shape.embedding_width == 0
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9


def test_an_albert_of_one_width_has_a_map() -> None:
    checkpoint, tokens, want = small("albert", embedding_size=32)
    assert checkpoint.shape.embedding_width == 32
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9


def test_sinusoidal_positions_are_read() -> None:
    checkpoint, tokens, want = small("distilbert", sinusoidal_pos_embds=True)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_robertas_positions_begin_behind_the_paddings(pad: int) -> None:
    checkpoint, _, _ = small("roberta", pad_token_id=pad)
    assert checkpoint.shape.positions == 26 - pad - 1
    with TemporaryDirectory() as folder:
        found = small_encoder(Path(folder), "roberta", pad_token_id=pad)
        length = found.shape.positions  # all of them
        ids = 4 + torch.arange(2 * length).reshape(2, length) % 46
        mask = torch.ones_like(ids)
        mask[1, 5:], ids[1, 5:] = 0, pad
        tokens = Tokens(ids, torch.zeros_like(ids), mask)
        want = huggingface_hidden(found, tokens)
    folded = fold(found)
    got = forward(found.shape, folded, tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[mask.bool()].abs().max() < 1e-9
    more = torch.cat([ids, ids[:, :1]], 1)
    with pytest.raises(LocalInputError, match=f"want at most {length} positions"):
        forward(found.shape, folded, more, torch.zeros_like(more), torch.ones_like(more))
    with pytest.raises(LocalInputError, match="want padding after the tokens"):
        forward(found.shape, folded, tokens.ids, tokens.types, tokens.mask.flip(1))


@pytest.mark.parametrize("kind", ["albert", "deberta-v2", "electra", "roberta", *ROTARY])
def test_nothing_is_flagged_of_what_was_calibrated(kind: str) -> None:
    values, flagged, _ = audit(private(kind, "fast"), small(kind)[1])
    assert flagged == [False] * len(values)


def test_a_head_that_normalises_is_audited() -> None:
    """Its sum of squares has a range of its own, which only what was calibrated is sure to keep."""
    model, tokens = private("modernbert", "fast", 3), small("modernbert", 3)[1]
    values, flagged, _ = audit(model, tokens)
    assert flagged == [False] * len(values)
    rows = model.config.formats.rows
    narrow = replace(model.config.formats, rows=rows | {"head.square_sum": RowRange(1e-3, 1e-2, 1e6)})
    other = share_model(replace(model.config, formats=narrow), model.folded)
    assert audit(other, tokens)[1] == [True] * len(values)


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_bounds_hold(kind: str) -> None:
    """No calibrated value exceeds what the weights prove."""
    checkpoint, tokens, _ = small(kind, 3)
    folded = fold(checkpoint)
    proved = bounds(checkpoint.shape, folded)
    seen = calibrate(checkpoint.shape, folded, [tokens], checkpoint.sha256).ranges["exact"]
    for site, most in proved.sizes.items():
        if site != "logits":  # of which differences are bounded
            assert seen[site].absmax <= most, site
    for site, (least, most) in proved.square_sums.items():
        assert least <= seen[site].min and seen[site].max <= most, site
    for i, heads in enumerate(proved.scores):
        for head, most in enumerate(heads):
            assert seen[f"layer{i}.head{head}.scores"].absmax <= most


def test_descriptions_go_round() -> None:
    for kind in (*POST_NORM, *ROTARY):
        shape = small(kind)[0].shape
        assert BertShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape
    with pytest.raises(LocalConfigError, match="shared: want the weights of 3 layers, counted as they come"):
        replace(small("albert")[0].shape, shared=(0, 2, 1))


@pytest.mark.parametrize(("rows", "farthest"), [(256, 512), (32, 512), (8, 26), (4, 6)])
def test_rows_of_distances_are_debertas(rows: int, farthest: int) -> None:
    place = torch.arange(farthest)
    buckets = make_log_bucket_position(place[:, None] - place, rows, farthest).long()
    assert torch.equal(distance_rows(farthest, rows, farthest), (buckets + rows).clamp(0, 2 * rows - 1))


def test_texts_longer_than_the_table_of_distances() -> None:
    """What is further apart shares the last rows."""
    checkpoint, tokens, want = small("deberta", max_relative_positions=5)
    assert (checkpoint.shape.distances, checkpoint.shape.positions) == (5, 26)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["deberta", "deberta-v2"])
def test_distances_cost_no_round(kind: str) -> None:
    model = private(kind, "fast")
    known_answer(model.config)
    flat = replace(model.config, shape=replace(model.config.shape, distances=0, farthest=0))
    ours, theirs = (Plans(config).infer(Size(1, 12)).ledger.operations for config in (model.config, flat))
    assert sum(cost.rounds for cost in ours.values()) == sum(cost.rounds for cost in theirs.values())
    assert sum(cost.sent_bytes for cost in ours.values()) == sum(cost.sent_bytes for cost in theirs.values())


def test_local_windows_are_modernberts() -> None:
    """Longer rows than a window, on layers with and without one; and the window is part of what was compared."""
    checkpoint, tokens, want = small("modernbert")
    shape, folded = checkpoint.shape, fold(checkpoint)
    assert shape.windows == (0, 2, 2, 0)
    everywhere = forward(replace(shape, windows=()), folded, tokens.ids, tokens.types, tokens.mask)
    assert (everywhere - want)[tokens.mask.bool()].abs().max() > 0.1


@pytest.mark.parametrize("length", [7, 8, 9, 12])
def test_bands_of_any_length(length: int) -> None:
    """Whole blocks and parts of one; what a window leaves out changes nothing."""
    model, tokens = private("modernbert", "fast"), small("modernbert")[1]
    shorter = Tokens(*(x[:2, :length] for x in (tokens.ids, tokens.types, tokens.mask)))
    result, _, floats = model.run(shorter)
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("length", [120, 150])  # the format of numerators goes by the text, not by the band
def test_only_the_band_costs_anything(length: int) -> None:
    model = private("modernbert", "fast")
    config = replace(model.config, shape=replace(model.config.shape, positions=200))
    band, all_pairs = (
        Plans(replace(config, shape=replace(config.shape, windows=windows))).infer(Size(1, length)).ledger.operations
        for windows in ((0, 2, 2, 0), ())
    )
    assert sum(cost.rounds for cost in band.values()) == sum(cost.rounds for cost in all_pairs.values())
    for name, share in (("attention/exp", 0.15), ("attention", 0.7)):  # a row's maximum costs the same in both
        local, full = (plan[f"layer1/{name}"] for plan in (band, all_pairs))
        assert sum(local.dealt_bytes) < share * sum(full.dealt_bytes), name
        assert band[f"layer0/{name}"] == all_pairs[f"layer0/{name}"]


def test_older_names_of_modernberts_settings_are_read(tmp_path: Path) -> None:
    """As the published checkpoints have them; other layers and angles would be another model's."""
    save_encoder(tmp_path, "modernbert", num_hidden_layers=6)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    for name in ("layer_types", "rope_parameters"):
        del values[name]
    older = {"global_attn_every_n_layers": 2, "global_rope_theta": 5000.0, "local_rope_theta": 70.0}
    path.write_text(json.dumps(values | older))
    shape = load_checkpoint(tmp_path).shape
    assert shape.windows == (0, 2) * 3
    assert shape.rotary == (5000.0, 70.0) * 3


@pytest.mark.parametrize(
    ("kind", "more", "says"),
    [
        ("gte", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e3, "factor": 4.0}}, "want rope_type default"),
        ("nomic_bert", {"head_dim": 8}, "head_dim: want hidden_size / num_attention_heads, got 8"),
        ("deberta", {"talking_head": True}, "talking_head: want false, got True; take a DeBERTa v3"),
        ("deberta", {"position_biased_input": True}, "position_biased_input: want false, got True"),
        ("deberta-v2", {"pos_att_type": ["c2p"]}, "pos_att_type: want c2p and p2c, got .*c2p"),
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size: want 0, got 3; take a DeBERTa v3"),
        ("deberta-v2", {"share_att_key": None}, "share_att_key: want true, got None"),
        ("deberta-v2", {"position_biased_input": True}, "position_biased_input: want false, got True"),
        ("deberta-v2", {"position_buckets": -1}, "distances: want a whole number of at least 0, got -1"),
        (
            "modernbert",
            {"architectures": ["ModernBertForSequenceClassification"], "classifier_pooling": "max"},
            "classifier_pooling: want cls or mean, got max; correct config.json",
        ),
        ("modernbert", {"hidden_activation": "mish"}, "hidden_activation: want gelu, gelu_new, .*, got mish"),
    ],
)
def test_other_angles_and_widths_are_refused(tmp_path: Path, kind: str, more: dict[str, Any], says: str) -> None:
    save_encoder(tmp_path, kind)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    with pytest.raises(LocalConfigError, match=says):
        load_checkpoint(tmp_path)


def test_biases_that_modernbert_may_have() -> None:
    more = {"attention_bias": True, "mlp_bias": True, "norm_bias": True}
    checkpoint, tokens, want = small("modernbert", **more)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-5
    result, _, floats = private("modernbert", "fast", **more).run(tokens)
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("softmax", ["2quad", "2relu"])
def test_other_softmaxes(softmax: str) -> None:
    checkpoint, tokens, _ = small("modernbert")
    result, _, floats = private_model(checkpoint, [tokens], "fast", softmax).run(tokens)
    assert torch.cosine_similarity(result, floats).min() > 0.9995


def test_a_residual_that_grows() -> None:
    """Its fraction gives way to its size where it is normalised, and 1/sigma keeps its own."""
    checkpoint, tokens, _ = small("modernbert")
    large = dict(checkpoint.tensors)
    for i in range(4):
        large[f"layer{i}.down.weight"] = large[f"layer{i}.down.weight"] * 12
    grown = replace(checkpoint, tensors=large, sha256="grown")
    model = private_model(grown, [tokens], "fast", "exact")
    assert model.config.formats.stream_fracs[-1] < model.config.formats.stream_fracs[0] <= 14
    result, _, floats = model.run(tokens)
    assert torch.cosine_similarity(result, floats).min() > 0.9998
    assert model.config.formats.stream_frac == 14


@pytest.mark.parametrize(("factor", "frac", "error"), [(300, 13, 0.01), (10_000, 8, 0.05)])
def test_a_residual_beyond_4096(factor: int, frac: int, error: float) -> None:
    """It has fewer fraction bits from its start on, and so have the weights of what is added to it."""
    checkpoint, tokens, _ = small("modernbert")

    def grown(by: int) -> Checkpoint:
        tensors = {
            name: value * (by if name.endswith("down.weight") else 1) for name, value in checkpoint.tensors.items()
        }
        return replace(checkpoint, tensors=tensors, sha256=f"grown {by}")

    model = private_model(grown(factor), [tokens], "fast", "exact")
    assert model.config.formats.stream_frac == frac
    result, whole, floats = model.run(tokens)
    assert torch.cosine_similarity(result, floats).min() > 0.9999
    assert (result - floats).abs().max() < error and (result - whole).abs().max() < error
    values, flagged, _ = audit(model, tokens)
    assert flagged == [False] * len(values)
    with pytest.raises(LocalConfigError, match=r"layer\d\.down\.centred: want < 262144"):
        private_model(grown(30_000), [tokens], "fast", "exact")


def test_a_residual_that_leaves_its_ring_is_flagged() -> None:
    """Of a program that was planned for a smaller one."""
    checkpoint, tokens, _ = small("modernbert")
    tensors = {
        name: value * (2000 if name.endswith("down.weight") else 1) for name, value in checkpoint.tensors.items()
    }
    model = private_model(replace(checkpoint, tensors=tensors, sha256="grown"), [tokens], "fast", "exact")
    narrow = replace(model.config.formats, stream_frac=14)
    other = share_model(replace(model.config, formats=narrow), model.folded)
    assert all(audit(other, tokens)[1])


def test_texts_are_not_cut_where_a_model_without_a_table_goes_on(tmp_path: Path) -> None:
    """They are refused behind the positions that are calibrated."""
    save_encoder(tmp_path, "nomic_bert", max_position_embeddings=8192)
    small_models.save_words(tmp_path)
    small_models.layout(tmp_path, sentence_bert_config={"max_seq_length": 8192})
    found = load_checkpoint(tmp_path)
    assert found.preprocessing is not None
    assert (found.shape.positions, found.preprocessing.max_tokens) == (2048, 0)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 512}')
    shorter = load_checkpoint(tmp_path).preprocessing
    assert shorter is not None and shorter.max_tokens == 512


@pytest.mark.parametrize("head", ["TokenClassification", "QuestionAnswering"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_heads_of_tokens_are_transformers(tmp_path: Path, kind: str, head: str) -> None:
    """Of the families for which transformers has one."""
    labels = {"num_labels": 4} if head == "TokenClassification" else {}
    known = {"TokenClassification": AutoModelForTokenClassification, "QuestionAnswering": AutoModelForQuestionAnswering}
    config = AutoConfig.for_model(kind, **{**encoders.SIZES, **encoders.MORE.get(kind, {}), **labels})
    if type(config) not in known[head]._model_mapping:
        pytest.skip(f"transformers has no {head} of {kind}")
    torch.manual_seed(3)
    model = known[head].from_config(config).double().eval()
    encoders.train(model)
    model.float().save_pretrained(tmp_path)
    found = load_checkpoint(tmp_path)
    tokens = small_tokens(found.shape.types)
    types = {"token_type_ids": tokens.types} if found.shape.types else {}
    with torch.inference_mode():
        output = model.double()(input_ids=tokens.ids, attention_mask=tokens.mask, **types)
    want = output.logits if labels else torch.stack([output.start_logits, output.end_logits], -1)
    got = answer(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask)
    assert found.shape.tells_tokens
    assert (got - want)[tokens.mask.bool()].abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    if kind in ("electra", "gte", "modernbert"):  # what is private of it is the same for all others
        model = private_model(found, [tokens], "fast", "exact")
        result, _, floats = model.run(tokens)
        assert (result - floats)[tokens.mask.bool()].abs().max() < 0.04
        assert audit(model, tokens)[1] == [False] * 3
    if kind == "modernbert":  # a map, an activation and a LayerNorm before the last map, audited at every token
        plan = model.plans.infer(Size(3, 12)).ledger.operations
        assert sum(cost.rounds for name, cost in plan.items() if name.startswith("tokens")) == 8
        proved, seen = (
            bounds(found.shape, fold(found)),
            calibrate(found.shape, fold(found), [tokens], "").ranges["exact"],
        )
        assert seen["transform.centred"].absmax <= proved.sizes["transform.centred"]
        rows = model.config.formats.rows | {"transform.square_sum": RowRange(1e-3, 1e-2, 1e6)}
        narrow = share_model(replace(model.config, formats=replace(model.config.formats, rows=rows)), model.folded)
        assert audit(narrow, tokens)[1] == [True] * 3


FILLERS = (*POST_NORM, *ROTARY)
SAID = torch.tensor([[True, True], [True, True], [True, False]])  # the last text has its place twice


@cache
def filler(kind: str, **more: Any) -> tuple[Checkpoint, Tokens, Tensor]:
    """A model that fills masks, tokens with places, and transformers' logits of these: [batch, count, vocab]."""
    with TemporaryDirectory() as folder:
        found = load_checkpoint(save_encoder(Path(folder), kind, head=AutoModelForMaskedLM, **more))
        tokens = small_tokens(found.shape.types)
        tokens = replace(tokens, places=torch.tensor([[2, 9], [6, 3], [0, 0]]))
        types = {"token_type_ids": tokens.types} if found.shape.types else {}
        model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float64).eval()
        with torch.inference_mode():
            logits = model(input_ids=tokens.ids, attention_mask=tokens.mask, **types).logits
        return found, tokens, torch.take_along_dim(logits, tokens.places[..., None], 1)


@pytest.mark.parametrize("kind", FILLERS)
def test_filled_masks_are_transformers(kind: str) -> None:
    found, tokens, want = filler(kind)
    assert (found.shape.head, found.shape.columns) == ("fill-mask", 50)
    folded = fold(found)
    got = answer(found.shape, folded, tokens.ids, tokens.types, tokens.mask, places=tokens.places)
    assert (got - want)[SAID].abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    assert want.std() > 0.3
    proved = bounds(found.shape, folded)
    seen = calibrate(found.shape, folded, [tokens], found.sha256).ranges["exact"]
    for site in ("transform.up", "transform.centred"):
        assert seen[site].absmax <= proved.sizes[site]
    least, most = proved.square_sums["transform.square_sum"]
    assert least <= seen["transform.square_sum"].min and seen["transform.square_sum"].max <= most


@pytest.mark.parametrize(
    ("kind", "suite", "more"),
    [
        ("albert", "fast", {}),  # a transform narrower than the layers
        ("electra", "secformer", {}),
        ("modernbert", "fast", {"decoder_bias": False}),
        ("nomic_bert", "fast", {}),  # SiLU
        ("roberta", "fast", {"hidden_act": "relu"}),
    ],
)
def test_private_filler_is_float(kind: str, suite: str, more: dict[str, Any]) -> None:
    found, tokens, want = filler(kind, **more)
    model = private_model(found, [tokens], suite, "exact")
    result, whole, floats = model.run(tokens)
    assert (result - floats)[SAID].abs().max() < 0.04
    assert (result - whole).abs().max() < 0.04
    assert (floats - want)[SAID].abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    assert audit(model, tokens)[1] == [False] * 3


def test_a_classifier_of_the_mean() -> None:
    """Of a text's own tokens, whatever stands beside it; a round more than of the first one."""
    checkpoint, tokens, want = small("modernbert", 3, classifier_pooling="mean")
    assert checkpoint.shape.pooling == "mean"
    got = classify(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want).abs().max() < 1e-5
    model = private("modernbert", "fast", 3, classifier_pooling="mean")
    result, whole, floats = model.run(tokens)
    assert (result - floats).abs().max() < 0.02
    assert (result - whole).abs().max() < 0.02
    assert audit(model, tokens)[1] == [False] * 3
    first = private("modernbert", "fast", 3).plans.infer(Size(3, 12)).ledger.of("pooler")
    mean = model.plans.infer(Size(3, 12)).ledger.of("pooler")
    assert (first.rounds, first.sent_bytes) == (1, 3 * 32 * 6)
    assert (mean.rounds, mean.sent_bytes) == (2, 3 * 32 * (4 + 6))


@pytest.mark.parametrize(
    ("kind", "legacy"), [("deberta", True), ("deberta", False), ("deberta-v2", True), ("deberta-v2", False)]
)
def test_both_of_debertas_heads_for_masks(tmp_path: Path, kind: str, legacy: bool) -> None:
    """The later one decodes by the table; what is named as the other one is refused, whose weights would be random."""
    found, tokens, want = filler(kind, legacy=legacy)
    got = answer(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask, places=tokens.places)
    assert (got - want)[SAID].abs().max() < 1e-5
    save_encoder(tmp_path, kind, head=AutoModelForMaskedLM, legacy=legacy)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"legacy": not legacy}))
    with pytest.raises(LocalConfigError, match=r"unknown parameters: (lm_predictions\.lm_head|cls\.predictions)"):
        load_checkpoint(tmp_path)


def test_what_alberts_own_training_leaves_beside(tmp_path: Path) -> None:
    save_encoder(tmp_path, "albert", head=AutoModelForMaskedLM)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    more = {"sop_classifier.classifier.bias": torch.zeros(2), "predictions.decoder.bias": tensors["predictions.bias"]}
    save_file(tensors | {name: value.clone() for name, value in more.items()}, file, {"format": "pt"})
    assert load_checkpoint(tmp_path).shape.fills
    more["predictions.decoder.bias"] = more["predictions.decoder.bias"] + 1
    save_file(tensors | more, file, {"format": "pt"})
    with pytest.raises(LocalConfigError, match=r"decoder.bias: want what predictions.bias holds"):
        load_checkpoint(tmp_path)


def test_bounds_of_more_embeddings_than_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """250,002 words at 8,192 positions: what their norms tell holds as well, if less tightly."""
    checkpoint, _, _ = small("xlm-roberta")
    folded = fold(checkpoint)
    counted = bounds(checkpoint.shape, folded).square_sums["embedding.square_sum"]
    monkeypatch.setattr(bounds_module, "MOST_COMBINATIONS", 100)
    told = bounds(checkpoint.shape, folded).square_sums["embedding.square_sum"]
    assert 0 < told[0] <= counted[0] <= counted[1] <= told[1] < 4 * counted[1]
