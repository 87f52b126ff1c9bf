"""JinaBERT: ALiBi and a gated feed-forward part, beside a reference that is written from its description."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from constants import another
from encoders import small_tokens
from jinas import head_slopes, hidden_states, save_jina
from private import Private, audit, private_model
from safetensors.torch import load_file, save_file

from mpcnet.errors import LocalConfigError
from mpcnet.models import position_bias
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.float_model.reference import forward
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.position_bias import FAR, NEAR, by_gap, falls, slopes
from mpcnet.models.private.known_answer import known_answer
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.texts.tokens import Tokens

LONG = 380  # tokens: further than what is taken off a score of the first heads


@pytest.mark.parametrize("heads", [1, 2, 6, 8, 12, 16])
def test_slopes(heads: int) -> None:
    found = torch.tensor([float(slope) for slope in slopes(heads)], dtype=torch.float64)
    assert torch.allclose(found, head_slopes(heads), rtol=1e-12)
    rounded = falls(heads, 300, 12).double() / 2**12
    exact = (head_slopes(heads)[:, None] * torch.arange(300)).clamp(max=FAR)
    assert (rounded - exact).abs().max() < 2**-12
    assert torch.equal(by_gap(rounded, 5)[0, 3], rounded[0, [3, 2, 1, 0, 1]])


@pytest.fixture(scope="module")
def long() -> Tokens:
    ids = 2 + torch.arange(2 * LONG).reshape(2, LONG) * 7 % 48
    mask = torch.ones_like(ids)
    mask[1, 372:] = 0
    return Tokens(ids, torch.zeros_like(ids), mask)


@pytest.mark.parametrize("more", [{}, {"feed_forward_type": "reglu", "num_attention_heads": 4}])
def test_float_model_is_as_described(tmp_path: Path, long: Tokens, more: dict[str, Any]) -> None:
    """Short texts and long ones; a fall that ends at FAR changes nothing."""
    tensors = save_jina(tmp_path, **more)
    found = load_checkpoint(tmp_path)
    assert (found.shape.alibi, found.shape.placed, found.shape.positions) == (True, False, 512)
    for tokens in (small_tokens(2), long):
        want = hidden_states(tensors, tokens.ids, tokens.types, tokens.mask, **more)
        got = forward(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask)
        assert (got - want)[tokens.mask.bool()].abs().max() < 1e-8
    flat = replace(found.shape, alibi=False, distances=0, rotary=(1e4,) * 2)
    other = forward(flat, fold(found), tokens.ids, tokens.types, tokens.mask)
    assert (other - want)[tokens.mask.bool()].abs().max() > 0.1


def small(folder: Path, tokens: list[Tokens], **more: Any) -> Private:
    save_jina(folder, **more)
    return private_model(load_checkpoint(folder), tokens, "fast", "exact")


def test_private_is_float(tmp_path: Path, long: Tokens) -> None:
    """And falls take no round and no byte: of the plan, only windows are wider."""
    tokens = small_tokens(2)
    model = small(tmp_path, [tokens, long])
    result, whole, floats = model.run(tokens)
    assert (result - floats).abs().max() < 0.02
    assert (result - whole).abs().max() < 0.02
    assert audit(model, tokens)[1] == [False] * 3
    assert max(window.bits for window in model.config.formats.windows[0]) >= 8
    flat = replace(model.config, shape=replace(model.config.shape, alibi=False, rotary=(1e4,) * 2))
    ours, theirs = (Plans(config).infer(Size(1, 12)).ledger.operations for config in (model.config, flat))
    mine, other = (plan["layer0/attention"] for plan in (ours, theirs))
    assert (mine.rounds, mine.sent_bytes, sum(mine.dealt_bytes)) == (
        other.rounds, other.sent_bytes, sum(other.dealt_bytes)
    )  # fmt: skip


def test_another_slope_is_another_program(tmp_path: Path) -> None:
    config = small(tmp_path, [small_tokens(2)]).config
    before = known_answer(config)
    with another(position_bias, "FAR", 255):
        position_bias.falls.cache_clear()
        after = known_answer(config)
    position_bias.falls.cache_clear()
    assert after != before == known_answer(config)


def test_a_long_text(tmp_path: Path, long: Tokens) -> None:
    model = small(tmp_path, [small_tokens(2), long], num_hidden_layers=1)
    last = Tokens(*(x[1:, :372] for x in (long.ids, long.types, long.mask)))
    result, _, floats = model.run(last)
    assert torch.cosine_similarity(result, floats).min() > 0.9999


def test_bounds_hold(tmp_path: Path, long: Tokens) -> None:
    save_jina(tmp_path, num_hidden_layers=1)
    found = load_checkpoint(tmp_path)
    folded = fold(found)
    proved = bounds(found.shape, folded)
    seen = calibrate(found.shape, folded, [long], found.sha256).ranges["exact"]
    for head, most in enumerate(proved.scores[0]):
        assert seen[f"layer0.head{head}.scores"].absmax <= most
        assert proved.products(found.shape, 0)[head] < most


def test_products_that_could_outweigh_a_fall_are_audited_or_refused(tmp_path: Path) -> None:
    """A key counts as nothing where ALiBi takes FAR off its score: so no product may make up for that."""
    tokens, tensors = small_tokens(2), save_jina(tmp_path)
    file = tmp_path / "model.safetensors"
    for factor, says in ((5.0, ""), (40.0, rf"layer0\.norms: want < {NEAR:g}, got .* with its margin")):
        large = {name: value * (factor if "self.query" in name else 1) for name, value in tensors.items()}
        save_file(large, file, {"format": "pt"})
        found = load_checkpoint(tmp_path)
        if says:
            with pytest.raises(LocalConfigError, match=says):
                private_model(found, [tokens], "fast", "exact")
        else:
            model = private_model(found, [tokens], "fast", "exact")
            assert 0 < model.config.formats.norm_limits[0] < NEAR
            assert audit(model, tokens)[1] == [False] * 3


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"auto_map": {"AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel"}}, "auto_map: want jinaai/jina-bert-implementation or none, got"),
        ({"feed_forward_type": "original"}, "feed_forward_type: want geglu or reglu, got original"),
        ({"architectures": ["JinaBertForSequenceClassification"]}, "architectures: want JinaBertModel or its head for masks, got"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    save_jina(tmp_path, **more)
    with pytest.raises(LocalConfigError, match=says):
        load_checkpoint(tmp_path)


def test_norms_of_queries_are_refused(tmp_path: Path) -> None:
    """The code models' have them."""
    save_jina(tmp_path)
    file = tmp_path / "model.safetensors"
    name = "encoder.layer.0.attention.self.layer_norm_q.weight"
    save_file(load_file(file) | {name: torch.ones(48)}, file, {"format": "pt"})
    with pytest.raises(
        LocalConfigError, match=r"1 unknown parameters: encoder\.layer\.0\.attention\.self\.layer_norm_q"
    ):
        load_checkpoint(tmp_path)


def test_other_suites_and_softmaxes_are_refused(tmp_path: Path) -> None:
    save_jina(tmp_path)
    found = load_checkpoint(tmp_path)
    with pytest.raises(LocalConfigError, match="softmax: want exact beside ALiBi, got 2quad"):
        private_model(found, [small_tokens(2)], "fast", "2quad")
    with pytest.raises(LocalConfigError, match=r"suite crypten: want attention to all tokens .*, got ALiBi"):
        private_model(found, [small_tokens(2)], "crypten", "exact")
    with pytest.raises(LocalConfigError, match="want a model of transformers' own code, got JinaBERT"):
        published(found)
