"""The folded plaintext model against Hugging Face's, and what it lets an observer see."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.demo import demo_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import huggingface_hidden, huggingface_logits
from mpcnet.models.float_model.reference import classify, embed, forward
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Tokens, encode

TEXTS = [
    "Hello",
    "The ferry left at 7:45, did it not?",
    ("A pair of texts", "has a second type of token, and is the longest row of this batch."),
]
SHAPE = BertShape(layers=2, hidden=8, heads=2, ffn=16, vocab=50, positions=32)


@pytest.fixture(scope="module")
def demo():
    return demo_checkpoint()


@pytest.fixture(scope="module")
def folded(demo):
    return fold(demo)


@pytest.fixture(scope="module")
def tokens(demo):
    return encode(demo.source, TEXTS, limit=128)


def small_tokens():
    ids = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0], [9, 0, 0, 0, 0]])
    types = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0], [0] * 5])
    return Tokens(ids, types, (ids > 0).long())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_demo_model_equals_hugging_face(demo, folded, tokens, dtype, bound):
    want = huggingface_hidden(demo, tokens, dtype)
    weights = {name: value.to(dtype) for name, value in folded.items()}
    valid = tokens.mask.bool()
    got = forward(demo.shape, weights, tokens.ids, tokens.types, tokens.mask)
    assert got.dtype == dtype
    assert (got - want)[valid].abs().max() < bound
    mean = torch.stack([row[keep].mean(0) for row, keep in zip(want, valid, strict=True)])
    assert (embed(demo.shape, weights, tokens.ids, tokens.types, tokens.mask) - mean).abs().max() < bound


def test_classifier_equals_hugging_face(tmp_path):
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, num_labels=3, initializer_range=0.5, layer_norm_eps=1e-5,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    for name, value in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            torch.nn.init.normal_(value, mean=float(name.endswith("weight")), std=0.5)
    model.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert (checkpoint.shape.head, checkpoint.shape.labels, checkpoint.shape.eps) == ("classification", 3, 1e-5)
    batch, folded = small_tokens(), fold(checkpoint)
    want = huggingface_logits(checkpoint, batch)
    assert want.std() > 0.1
    assert (classify(checkpoint.shape, folded, batch.ids, batch.types, batch.mask) - want).abs().max() < 1e-9
    hidden = forward(checkpoint.shape, folded, batch.ids, batch.types, batch.mask)
    assert (hidden - huggingface_hidden(checkpoint, batch))[batch.mask.bool()].abs().max() < 1e-9


@pytest.mark.parametrize("softmax", ["exact", "2quad", "2relu"])
def test_padding_changes_nothing(softmax):
    folded, batch = fold(random_checkpoint(SHAPE, seed=1)), small_tokens()
    together = embed(SHAPE, folded, batch.ids, batch.types, batch.mask, softmax)
    for i, length in enumerate(batch.mask.sum(1).tolist()):
        alone = embed(SHAPE, folded, *(x[i : i + 1, :length] for x in (batch.ids, batch.types, batch.mask)), softmax)
        assert (alone[0] - together[i]).abs().max() < 1e-12


def test_2relu_by_hand():
    """Negative scores count as 0, and eps is in every row's sum."""
    seen = {}
    folded, ids = fold(random_checkpoint(SHAPE, seed=2)), torch.tensor([[3, 1, 4, 1]])
    folded |= {name: 40 * value for name, value in folded.items() if name.endswith("qkv.weight")}
    forward(SHAPE, folded, ids, ids * 0, ids * 0 + 1, "2relu", seen.__setitem__)
    scores = seen["layer0.scores"].reshape(4, 4, 2).permute(2, 0, 1)  # [head, query, key]
    value = seen["layer0.value"].reshape(4, 2, 4)  # [seq, head, head_dim]
    assert scores.min() < -0.1 and scores.max() > 0.1
    for head in range(2):
        for query in range(4):
            weights = [max(s, 0.0) for s in scores[head, query].tolist()]
            total = sum(weights) + 0.25
            assert seen["layer0.row_sum"].reshape(4, 2)[query, head].item() == pytest.approx(total)
            want = sum(w / total * value[key, head] for key, w in enumerate(weights))
            assert torch.allclose(seen["layer0.context"].reshape(4, 2, 4)[query, head], want)


def test_2quad_by_hand():
    """One layer's attention from the observed scores and values, element by element."""
    seen = {}
    folded, ids = fold(random_checkpoint(SHAPE, seed=2)), torch.tensor([[3, 1, 4, 1]])
    forward(SHAPE, folded, ids, ids * 0, ids * 0 + 1, "2quad", seen.__setitem__)
    scores = seen["layer0.scores"].reshape(4, 4, 2).permute(2, 0, 1)  # [head, query, key]
    value = seen["layer0.value"].reshape(4, 2, 4)  # [seq, head, head_dim]
    for head in range(2):
        for query in range(4):
            weights = [(s + 5) ** 2 for s in scores[head, query].tolist()]
            assert seen["layer0.row_sum"].reshape(4, 2)[query, head].item() == pytest.approx(sum(weights))
            want = sum(w / sum(weights) * value[key, head] for key, w in enumerate(weights))
            assert torch.allclose(seen["layer0.context"].reshape(4, 2, 4)[query, head], want)


@pytest.mark.parametrize("softmax", ["exact", "2quad", "2relu"])
def test_sites_show_valid_tokens_only(softmax):
    shape = BertShape(layers=1, hidden=8, heads=2, ffn=16, vocab=50, positions=32, head="classification", labels=3, pooling="first")  # fmt: skip
    seen, folded, batch = {}, fold(random_checkpoint(shape, seed=1)), small_tokens()
    classify(shape, folded, batch.ids, batch.types, batch.mask, softmax, seen.__setitem__)
    rows, pairs = 5 + 3 + 1, 25 + 9 + 1
    assert {site: tuple(value.shape) for site, value in seen.items()} == {
        "embedding.centred": (rows, 8),
        "embedding.square_sum": (rows,),
        "embedding.normal": (rows, 8),
        "layer0.qkv": (rows, 24),
        "layer0.value": (rows, 2, 4),
        "layer0.norms": (rows, 2, 2),
        "layer0.scores": (pairs, 2),
        "layer0.row_max": (rows, 2, 1),
        **{f"layer0.head{head}.scores": (pairs, 1) for head in range(2)},
        **{f"layer0.head{head}.row_span": (rows, 1, 1) for head in range(2)},
        "layer0.weights": (pairs, 2),
        "layer0.row_sum": (rows, 2, 1),
        "layer0.context_raw": (rows, 2, 4),
        "layer0.context": (rows, 8),
        "layer0.residual": (rows, 8),
        "layer0.out.centred": (rows, 8),
        "layer0.out.square_sum": (rows,),
        "layer0.out.normal": (rows, 8),
        "layer0.up": (rows, 16),
        "layer0.activation": (rows, 16),
        "layer0.down.residual": (rows, 8),
        "layer0.down.centred": (rows, 8),
        "layer0.down.square_sum": (rows,),
        "layer0.normal": (rows, 8),
        "pooler.input": (3, 8),
        "logits": (3, 3),
    }
    assert seen["layer0.out.centred"].sum(-1).abs().max() < 1e-12
    assert seen["layer0.normal"].square().mean(-1).sub(1).abs().max() < 1e-6
    if softmax == "exact":
        assert seen["layer0.row_sum"].min() >= 1


@pytest.mark.parametrize(
    ("ids", "types", "mask", "message"),
    [
        ([[50]], [[0]], [[1]], r"ids in 0 \.\.\. 49"),
        ([[-1]], [[0]], [[1]], "ids"),
        ([[1]], [[2]], [[1]], "types"),
        ([[1]], [[0]], [[2]], "mask"),
        ([[1], [2]], [[0], [0]], [[1], [0]], "row of padding"),
        ([[1, 2]], [[0]], [[1]], "one shape"),
        ([[]], [[]], [[]], "one shape"),
        ([[1] * 33], [[0] * 33], [[1] * 33], "at most 32 positions, got 33"),
    ],
)
def test_refuses_tokens(ids, types, mask, message):
    with pytest.raises(LocalInputError, match=message):
        forward(SHAPE, {}, *(torch.tensor(x, dtype=torch.int64) for x in (ids, types, mask)))


def test_refuses_heads_and_random_models():
    checkpoint = random_checkpoint(SHAPE, seed=1)
    batch = small_tokens()
    with pytest.raises(LocalConfigError, match="classification"):
        classify(SHAPE, {}, batch.ids, batch.types, batch.mask)
    with pytest.raises(LocalConfigError, match="RANDOM"):
        huggingface_hidden(checkpoint, batch)
