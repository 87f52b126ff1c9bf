"""The published model as others read its folder: text by text, with everything that its files ask for."""

import importlib.util
import json

import pytest
import torch
from reviews import save_small_mpnet
from safetensors.torch import load_file, save_file
from small_models import layout, save_classifier, save_embedding
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model import pipelines
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.float_model.reference import classify, embed
from mpcnet.models.presets import preset
from mpcnet.models.texts.tokens import encode

TEXTS = ["the dog eats", "a cat", ("not good", "the cat sings")]


@pytest.fixture(autouse=True)
def without_the_library(monkeypatch):
    """What is tested here is what happens without it; with it, see below."""
    monkeypatch.setattr(pipelines, "installed", lambda: False)


def hidden(folder, text, **options):
    model = AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    given = (text,) if isinstance(text, str) else text
    with torch.inference_mode():
        return model(**AutoTokenizer.from_pretrained(folder)(*given, return_tensors="pt", **options)).last_hidden_state[
            0
        ]


def ask(folder, softmax="exact"):
    return published(load_checkpoint(folder), softmax)(TEXTS)


def near(mine, theirs):
    return (mine - theirs).abs().max().item() < 1e-12


def test_a_plain_folder_is_the_mean(tmp_path):
    save_embedding(tmp_path)
    assert near(ask(tmp_path), torch.stack([hidden(tmp_path, text).mean(0) for text in TEXTS]))
    assert published(load_checkpoint(tmp_path)).by == "transformers"


def test_a_classifier(tmp_path):
    save_classifier(tmp_path, 3)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float64).eval()
    given = AutoTokenizer.from_pretrained(tmp_path)(*TEXTS[2], return_tensors="pt")
    with torch.inference_mode():
        assert near(ask(tmp_path)[2], model(**given).logits[0])


@pytest.mark.parametrize("name", ["", "module."])
def test_another_softmax_is_the_reference_with_it(tmp_path, name):
    """Read twice, by transformers and by ours, and the same to the last bits; a wrapper's prefix is no hindrance."""
    save_embedding(tmp_path / "embedding")
    save_classifier(tmp_path / "classifier", 3)
    for folder, run in ((tmp_path / "embedding", embed), (tmp_path / "classifier", classify)):
        path = folder / "model.safetensors"
        save_file({name + key: value for key, value in load_file(path).items()}, path, {"format": "pt"})
        found = load_checkpoint(folder)
        tokens = encode(folder, TEXTS, 64)
        for softmax in ("exact", "2quad", "2relu"):
            plain = run(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask, softmax)
            assert (ask(folder, softmax) - plain).abs().max() < 1e-6


@pytest.mark.parametrize("softmax", ["exact", "2quad", "2relu"])
def test_another_softmax_of_an_mpnet(tmp_path, softmax):
    """Whose attention is replaced, since it knows no interface."""
    save_small_mpnet(tmp_path)
    found = load_checkpoint(tmp_path)
    texts = ["the film", "a plot", ("its music was fine", "the actor")]
    tokens = encode(tmp_path, texts, 32)
    plain = embed(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask, softmax)
    assert (published(found, softmax)(texts) - plain).abs().max() < 1e-6
    assert published(found, softmax).by == "transformers"


@pytest.mark.parametrize(
    ("pooling", "formula"),
    [
        ("cls", lambda rows: rows[0]),
        ("lasttoken", lambda rows: rows[-1]),
        ("max", lambda rows: rows.max(0).values),
        ("mean_sqrt_len_tokens", lambda rows: rows.sum(0) / len(rows) ** 0.5),
        ("weightedmean", lambda rows: sum((i + 1) * row for i, row in enumerate(rows)) / sum(range(len(rows) + 1))),
        (["cls", "mean"], lambda rows: torch.cat([rows[0], rows.mean(0)])),
    ],
)
def test_poolings(tmp_path, pooling, formula):
    save_embedding(tmp_path)
    layout(tmp_path, pooling=pooling)
    assert near(ask(tmp_path), torch.stack([formula(hidden(tmp_path, text)) for text in TEXTS]))


def test_poolings_of_older_releases(tmp_path):
    save_embedding(tmp_path)
    layout(tmp_path)
    config = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
    assert near(ask(tmp_path), torch.stack([hidden(tmp_path, text)[0] for text in TEXTS]))


def with_dense(folder):
    layout(folder, "Dense", "Normalize")
    (folder / "2_Dense").mkdir()
    settings = {"in_features": 32, "out_features": 8, "activation_function": "torch.nn.modules.activation.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(settings | {"bias": True}))
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(8, 32, generator=generator), torch.randn(8, generator=generator)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    return weight.double(), bias.double()


def test_dense_and_normalize(tmp_path):
    save_embedding(tmp_path)
    weight, bias = with_dense(tmp_path)
    means = torch.stack([hidden(tmp_path, text).mean(0) for text in TEXTS])
    assert near(ask(tmp_path), torch.nn.functional.normalize(torch.tanh(means @ weight.T + bias)))


def test_truncated_vectors(tmp_path):
    save_embedding(tmp_path)
    layout(tmp_path, "Normalize", config_sentence_transformers={"truncate_dim": 8})
    means = torch.stack([hidden(tmp_path, text).mean(0) for text in TEXTS])
    assert near(ask(tmp_path), torch.nn.functional.normalize(means)[:, :8])


def test_lengths_and_prompts(tmp_path):
    save_embedding(tmp_path)
    prompts = {"prompts": {"q": "the cat sings "}, "default_prompt_name": "q"}
    files = {"sentence_bert_config": {"max_seq_length": 6}, "config_sentence_transformers": prompts}
    layout(tmp_path, pooled={"include_prompt": False}, **files)
    mine = published(load_checkpoint(tmp_path))(["the dog eats the cat"])
    rows = hidden(tmp_path, "the cat sings the dog", truncation=True, max_length=6)
    assert near(mine[0], rows[4:].mean(0))  # [CLS] and the prompt's three are left out


def test_weights_that_transformers_would_draw_are_refused(tmp_path):
    save_classifier(tmp_path, 3)
    found = load_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(
        {key: value for key, value in load_file(path).items() if key != "classifier.bias"}, path, {"format": "pt"}
    )
    with pytest.raises(LocalConfigError, match=r"want all weights, got none for classifier\.bias"):
        published(found)


def test_a_library_that_cannot_read_the_folder_is_named(tmp_path, monkeypatch):
    def broken(*given):
        raise ImportError("no such part")

    save_embedding(tmp_path)
    layout(tmp_path)
    monkeypatch.setattr(pipelines, "installed", lambda: True)
    monkeypatch.setattr(pipelines, "by_library", broken)
    with pytest.raises(LocalConfigError, match="want a folder that the sentence-transformers here loads, got no such"):
        published(load_checkpoint(tmp_path))


def test_random_weights_are_not_published():
    with pytest.raises(LocalConfigError, match="want a published model, got RANDOM"):
        published(random_checkpoint(preset("bert-tiny"), 0))


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is optional"
)
def test_sentence_transformers_says_the_same(tmp_path, monkeypatch):
    save_embedding(tmp_path)
    with_dense(tmp_path)
    mine = ask(tmp_path)
    monkeypatch.setattr(pipelines, "installed", lambda: True)
    theirs = published(load_checkpoint(tmp_path))
    assert theirs.by == "sentence-transformers" and (theirs(TEXTS) - mine).abs().max() < 1e-6


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is optional"
)
@pytest.mark.parametrize("softmax", ["exact", "2quad"])
def test_sentence_transformers_with_another_softmax_of_an_mpnet(tmp_path, monkeypatch, softmax):
    save_small_mpnet(tmp_path)
    layout(tmp_path, "Normalize")
    texts = ["the film", "its music was fine"]
    mine = published(load_checkpoint(tmp_path), softmax)(texts)
    monkeypatch.setattr(pipelines, "installed", lambda: True)
    theirs = published(load_checkpoint(tmp_path), softmax)
    assert theirs.by == "sentence-transformers" and (theirs(texts) - mine).abs().max() < 1e-6
