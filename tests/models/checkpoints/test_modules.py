"""Folders of sentence-transformers: each is computed as it does by itself, or refused with what to do."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from sentences import HIDDEN, IDENTITY, TEXTS, dense, hidden_states, save_encoder, save_modules, tokenise
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from mpcnet.errors import LocalConfigError
from mpcnet.launch.requests.answers import as_score
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.demo import demo_model_dir
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.families.config import Config
from mpcnet.models.float_model.reference import embed
from mpcnet.models.formats import calibrate
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.planner import plan
from mpcnet.models.head_shape import Dense
from mpcnet.models.private import oracle_trace
from mpcnet.protocols.suites import SUITES

NORMALIZE = ("Normalize", None)


def legacy(*kinds: str) -> dict[str, Any]:
    """A pooling configuration of a release before 6."""
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    return {"word_embedding_dimension": HIDDEN} | {f"pooling_mode_{mode}": mode in kinds for mode in modes}


def ours(folder: Path, texts: tuple[str, ...] = TEXTS) -> Tensor:
    """The float model's vectors of texts, by our reading of the folder."""
    found = load_checkpoint(folder)
    assert found.preprocessing is not None
    tokens = tokenise(found.source, found.preprocessing, texts)
    vectors = embed(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask)
    return found.preprocessing.finished(vectors)


def privately(found: Checkpoint) -> Tensor:
    """The same by the private program, run as the oracle."""
    assert found.preprocessing is not None
    tokens, folded = tokenise(found.source, found.preprocessing, TEXTS), fold(found)
    ranges = calibrate.calibrate(found.shape, folded, [tokens], found.sha256)
    formats = plan(found.shape, bounds(found.shape, folded), ranges, "exact", SUITES["fast"])
    config = Config(found.shape, formats, SUITES["fast"], "private", found.preprocessing)
    with torch.inference_mode():
        return found.preprocessing.finished(
            oracle_trace.answer(oracle_trace.load_plain(config, folded), folded, tokens)
        )


def theirs(folder: Path, texts: tuple[str, ...] = TEXTS) -> Tensor:
    """sentence-transformers' own vectors, each text alone, in float64."""
    package = pytest.importorskip("sentence_transformers")
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    model = package.SentenceTransformer(str(folder), device="cpu", local_files_only=True).double()
    return torch.stack([model.encode(text, convert_to_tensor=True) for text in texts]).double()


LAYOUTS: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls": {"pooling": {"embedding_dimension": HIDDEN, "pooling_mode": "cls", "include_prompt": True}},
    "cls, old": {"pooling": legacy("cls_token"), "release": 2},
    "no switch, old": {"pooling": legacy(), "release": 2},
    "max": {"pooling": {"embedding_dimension": HIDDEN, "pooling_mode": "max"}},
    "last": {"pooling": {"embedding_dimension": HIDDEN, "pooling_mode": "lasttoken"}},
    "several, old": {"pooling": legacy("mean_tokens", "max_tokens", "mean_sqrt_len_tokens"), "release": 2},
    "several": {"pooling": {"embedding_dimension": HIDDEN, "pooling_mode": ["weightedmean", "cls"]}},
    "dense": {"after": [dense(HIDDEN, 20), ("Dropout", {"dropout": 0.1}), NORMALIZE]},
    "three dense": {"after": [dense(HIDDEN, 20, IDENTITY), dense(20, 24, bias=False), dense(24, 8, IDENTITY)]},
    "normalized": {"after": [("Normalize", {"module_input_name": "sentence_embedding"})], "release": 2},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    save_encoder(tmp_path)
    options = dict(LAYOUTS[name])
    save_modules(tmp_path, *options.pop("after", []), **options)
    private, want = privately(load_checkpoint(tmp_path)), theirs(tmp_path)
    assert (ours(tmp_path) - want).abs().max() < 1e-5
    assert torch.cosine_similarity(private, want).min() > 0.9999
    assert (private - want).abs().max() < 0.01 * want.abs().max()


@pytest.mark.parametrize(("size", "columns"), [(8, 8), (64, HIDDEN)])
def test_truncated_vectors(tmp_path: Path, size: int, columns: int) -> None:
    """Matryoshka: cut behind Normalize, so shorter than 1. Asked for more than there are, all of them."""
    save_encoder(tmp_path)
    save_modules(tmp_path, NORMALIZE)
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"truncate_dim": size}))
    want = theirs(tmp_path)
    assert want.shape == (len(TEXTS), columns)
    assert (ours(tmp_path) - want).abs().max() < 1e-5
    assert torch.cosine_similarity(privately(load_checkpoint(tmp_path)), want).min() > 0.9999


def test_dense_maps_without_an_activation_are_one(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    save_modules(tmp_path, dense(HIDDEN, 20, IDENTITY), dense(20, 24), dense(24, 9, IDENTITY), dense(9, 8, IDENTITY))
    found = load_checkpoint(tmp_path)
    assert found.shape.dense == (Dense(24, "tanh"), Dense(8, "identity"))
    assert [tuple(found.tensors[f"dense{i}.weight"].shape) for i in (0, 1)] == [(24, HIDDEN), (8, 24)]


def test_where_texts_are_cut(tmp_path: Path) -> None:
    """At max_seq_length, else at the tokenizer's own, never behind the positions; transformers' own folder cuts none."""
    save_encoder(tmp_path)
    long = (*TEXTS, "the old ship sails on the river and she reads the letter and the new ship sails")
    assert load_checkpoint(tmp_path).preprocessing.max_tokens == 0  # type: ignore[union-attr]
    save_modules(tmp_path)
    for file, content, length in (
        ("sentence_bert_config.json", {}, 24),
        ("tokenizer_config.json", {"model_max_length": 11}, 11),
        ("sentence_bert_config.json", {"max_seq_length": 7, "do_lower_case": False}, 7),
        ("sentence_bert_config.json", {"max_seq_length": 600}, 24),
    ):
        path = tmp_path / file
        known = json.loads(path.read_text()) if path.is_file() and "tokenizer" in file else {}
        path.write_text(json.dumps(known | content))
        assert load_checkpoint(tmp_path).preprocessing.max_tokens == length  # type: ignore[union-attr]
        if length < 24:
            assert (ours(tmp_path, long) - theirs(tmp_path, long)).abs().max() < 1e-5
            means = torch.stack([rows.mean(0) for rows in hidden_states(tmp_path, long, limit=length)])
            assert (ours(tmp_path, long) - means).abs().max() < 1e-5


@pytest.mark.parametrize("include", [True, False])
def test_prompts(tmp_path: Path, include: bool) -> None:
    save_encoder(tmp_path)
    save_modules(tmp_path, pooling={"embedding_dimension": HIDDEN, "pooling_mode": "mean", "include_prompt": include})
    prompts = {"prompts": {"query": "query : ", "document": ""}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    found = load_checkpoint(tmp_path)
    assert found.preprocessing is not None
    assert found.preprocessing.prompt == "query : "
    assert found.shape.pooled_from == (0 if include else 3)  # [CLS] query :
    rows = hidden_states(tmp_path, TEXTS, prompt="query : ")
    means = torch.stack([row[found.shape.pooled_from :].mean(0) for row in rows])
    assert (ours(tmp_path) - means).abs().max() < 1e-5
    assert (ours(tmp_path) - theirs(tmp_path)).abs().max() < 1e-5
    assert torch.cosine_similarity(privately(found), means).min() > 0.9999


def test_letters_are_lowered(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    save_modules(tmp_path)
    cased = ours(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    assert (ours(tmp_path) - cased).abs().max() > 0.01
    assert (ours(tmp_path) - theirs(tmp_path)).abs().max() < 1e-5


def test_the_transformer_in_a_folder_of_its_own(tmp_path: Path) -> None:
    save_encoder(tmp_path / "0_Transformer")
    save_modules(tmp_path)
    rows = json.loads((tmp_path / "modules.json").read_text())
    rows[0]["path"] = "0_Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(rows))
    (tmp_path / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    found = load_checkpoint(tmp_path)
    assert Path(found.source) == tmp_path / "0_Transformer"
    assert found.origin == str(tmp_path)
    assert found.preprocessing is not None and found.preprocessing.max_tokens == 9
    assert (ours(tmp_path) - theirs(tmp_path)).abs().max() < 1e-5


def test_what_the_package_saves_itself(tmp_path: Path) -> None:
    """All of its own files, as release 6 writes them, and a head that was saved with the encoder is not read."""
    package = pytest.importorskip("sentence_transformers")
    base, dense_module = (
        pytest.importorskip(f"sentence_transformers.base.modules.{x}") for x in ("transformer", "dense")
    )
    pooling = pytest.importorskip("sentence_transformers.sentence_transformer.modules.pooling")
    save_encoder(tmp_path / "encoder")
    torch.manual_seed(1)
    modules = [
        base.Transformer(str(tmp_path / "encoder"), max_seq_length=8, do_lower_case=True),
        pooling.Pooling(HIDDEN, ("cls", "mean")),
        dense_module.Dense(2 * HIDDEN, 12),
    ]
    made = package.SentenceTransformer(
        modules=modules, prompts={"q": "query : "}, default_prompt_name="q", device="cpu"
    )
    made.save(str(tmp_path / "saved"), create_model_card=False)
    assert (ours(tmp_path / "saved") - theirs(tmp_path / "saved")).abs().max() < 1e-5


def test_a_cross_encoder_is_a_classifier_that_cuts(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    config = BertConfig.from_pretrained(tmp_path, num_labels=1)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    row = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    (tmp_path / "modules.json").write_text(json.dumps([row]))
    task = {"transformer_task": "sequence-classification", "module_output_name": "scores"}
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps(task))
    (tmp_path / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    found = load_checkpoint(tmp_path)
    assert (found.shape.head, found.shape.labels, found.preprocessing.max_tokens) == ("classification", 1, 24)  # type: ignore[union-attr]
    assert found.shape.sigmoid
    identity = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(identity))
    assert not load_checkpoint(tmp_path).shape.sigmoid
    (tmp_path / "sentence_bert_config.json").write_text("{}")  # an encoder then, of which nothing is pooled
    with pytest.raises(LocalConfigError, match="want a Pooling behind the Transformer, got none; add one"):
        load_checkpoint(tmp_path)


def save_cross_encoder(folder: Path, labels: int = 1, **config: Any) -> None:
    """As save_pretrained of transformers; `config` goes into config.json."""
    save_encoder(folder)
    made = BertConfig.from_pretrained(folder, num_labels=labels)
    torch.manual_seed(2)
    BertForSequenceClassification(made).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


@pytest.mark.parametrize(
    ("config", "sigmoid"),
    [
        ({}, False),  # no cross-encoder: a regression
        ({"sentence_transformers": {"version": "5.0.0"}}, True),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, True),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, False),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, True),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, False),
    ],
)
def test_what_a_cross_encoder_makes_of_its_logit(tmp_path: Path, config: dict[str, Any], sigmoid: bool) -> None:
    save_cross_encoder(tmp_path, **config)
    found = load_checkpoint(tmp_path)
    assert found.shape.sigmoid is sigmoid
    package = pytest.importorskip("sentence_transformers")
    if config:
        model = package.CrossEncoder(str(tmp_path), device="cpu")
        logit = model.predict([("the dog", "a cat")], activation_fn=torch.nn.Identity(), convert_to_tensor=True)
        score = model.predict([("the dog", "a cat")], convert_to_tensor=True)
        assert torch.allclose(as_score(found.shape, logit), score)


@pytest.mark.parametrize(
    ("labels", "config", "says"),
    [
        (1, {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, "Identity, got torch.nn.m"),
        (3, {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "want Sigmoid of one l"),
        (3, {"problem_type": "regression"}, "problem_type: want regression of one label, got one of 3"),
    ],
)  # fmt: skip
def test_what_else_it_may_not_make_of_it(tmp_path: Path, labels: int, config: dict[str, Any], says: str) -> None:
    save_cross_encoder(tmp_path, labels, **config)
    with pytest.raises(LocalConfigError, match=says):
        load_checkpoint(tmp_path)


def test_the_demo_model_is_read_whole() -> None:
    """Length 1, cut at 256, as sentence-transformers gives it."""
    folder = demo_model_dir()
    found = load_checkpoint(folder)
    assert found.preprocessing is not None
    assert (found.preprocessing.max_tokens, found.preprocessing.normalize) == (256, True)
    texts = ("A ship sails on the river.", "She reads a letter. " * 80)
    vectors = ours(folder, texts)
    assert vectors.norm(dim=1).sub(1).abs().max() < 1e-9
    assert (vectors - theirs(folder, texts)).abs().max() < 1e-5


CONFIG = {"embedding_dimension": HIDDEN, "pooling_mode": "mean"}


@pytest.mark.parametrize(
    ("after", "pooling", "says"),
    [
        ([], CONFIG | {"pooling_mode": "median"}, r"Pooling \(module 1\): want cls or max or .*, got median; train with"),
        ([], CONFIG | {"attention": True}, "want the settings of a Pooling, got attention; save it by sentence-transformers 6"),
        ([], CONFIG | {"embedding_dimension": 64}, "Pooling: want vectors of 32, got 64"),
        ([dense(64, 8)], None, "Dense 0: want in_features 32, got 64"),
        ([dense(32, 8, "torch.nn.modules.activation.ReLU")], None, "want activation_function Tanh or Identity, got .*ReLU; train"),
        ([dense(32, 32, use_residual=True)], None, "want no residual, got use_residual; train one without"),
        ([dense(32, 8, module_input_name="token_embeddings")], None, "want module_input_name sentence_embedding, got token"),
        ([dense(32, 8, dropout=0.5)], None, "want the settings of a Dense, got dropout"),
        ([NORMALIZE, dense(32, 8)], None, r"Dense \(module 3\): want Normalize last, got Dense behind it"),
        ([("Pooling", CONFIG)], None, "in this order, got .*Pooling as module 2; train without it"),
    ],
)  # fmt: skip
def test_refused_modules(tmp_path: Path, after: Any, pooling: Any, says: str) -> None:
    save_encoder(tmp_path)
    save_modules(tmp_path, *after, pooling=pooling)
    with pytest.raises(LocalConfigError, match=f"cannot run privately: .*{says}"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("modules.json", [], "want a list of modules"),
        ("modules.json", [{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "../x", "type": "sentence_transformers.models.Pooling"}], r"want the path of a sub-folder, got '\.\./x'"),
        ("modules.json", [{"path": "", "type": "my_code.Transformer"}], r"got my_code\.Transformer as module 0; train without it"),
        ("modules.json", [{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}, {"path": "2_CNN", "type": "sentence_transformers.models.CNN"}], r"got sentence_transformers\.models\.CNN; train without it"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length: want a whole number of at least 3, got 'long'"),
        ("sentence_bert_config.json", {"transformer_task": "text-generation"}, "transformer_task: want feature-extraction or"),
        ("sentence_bert_config.json", {"modality_config": {"image": {}}}, "modality_config: want texts alone"),
        ("sentence_bert_config.json", {"model_args": {"num_hidden_layers": 1}}, "model_args: want none, got num_hidden_layers"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length: want none, got 32"),
        ("tokenizer_config.json", {"model_max_length": 2}, "model_max_length: want at least 3 tokens, got 2; correct it"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim: want a whole number of at least 1, got 0; correct it"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "want SentenceTransformer, got SparseEncoder"),
        ("config_sentence_transformers.json", {"prompts": {"a": "b"}, "default_prompt_name": "c"}, "default_prompt_name: want one of a, got c"),
    ],
)  # fmt: skip
def test_refused_settings(tmp_path: Path, file: str, content: Any, says: str) -> None:
    save_encoder(tmp_path)
    save_modules(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(LocalConfigError, match=says) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pooling_without_modules_json(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(legacy("mean_tokens")))
    assert load_checkpoint(tmp_path).shape.pooling == "mean"
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(legacy("cls_token")))
    with pytest.raises(LocalConfigError, match=r"modules\.json: want it beside 1_Pooling"):
        load_checkpoint(tmp_path)


def test_a_prompt_that_fills_every_text(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    save_modules(tmp_path, pooling=CONFIG | {"include_prompt": False})
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    (tmp_path / "config_sentence_transformers.json").write_text(
        '{"prompts": {"q": "query : "}, "default_prompt_name": "q"}'
    )
    with pytest.raises(LocalConfigError, match=r"prompt: want fewer tokens than the 4 .*, got 3; shorten it"):
        load_checkpoint(tmp_path)


def test_dense_weights_of_another_size(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    save_modules(tmp_path, dense(HIDDEN, 8))
    config = tmp_path / "2_Dense" / "config.json"
    config.write_text(config.read_text().replace('"bias": true', '"bias": false'))
    with pytest.raises(LocalConfigError, match=r"2_Dense: want .*, got .*linear\.bias.*; save the model again"):
        load_checkpoint(tmp_path)
