"""Every name of transformers' is one of ours, with its size."""

from dataclasses import replace

from transformers import BertConfig, BertForSequenceClassification, BertModel

from mpcnet.models.checkpoints.families.bert import BERT
from mpcnet.models.checkpoints.parameter_names import parameter_name
from mpcnet.models.checkpoints.parameter_sizes import parameter_sizes
from mpcnet.models.shape import BertShape

SMALL = dict(vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
SHAPE = BertShape(layers=2, hidden=8, heads=2, ffn=16, vocab=50, positions=32)


def test_every_hugging_face_name_is_known():
    for head, model in (
        ("embedding", BertModel(BertConfig(**SMALL, max_position_embeddings=32))),
        ("classification", BertForSequenceClassification(BertConfig(**SMALL, max_position_embeddings=32))),
    ):
        labels, pooling = (2, "first") if head == "classification" else (0, "mean")
        shape = replace(SHAPE, head=head, labels=labels, pooling=pooling)
        sizes = {parameter_name(name, BERT): tuple(value.shape) for name, value in model.named_parameters()}
        unused = {"pooler.weight": (8, 8), "pooler.bias": (8,)} if head == "embedding" else {}
        assert sizes == parameter_sizes(shape) | unused


def test_old_and_unknown_names():
    assert parameter_name("bert.encoder.layer.11.attention.output.LayerNorm.gamma", BERT) == "layer11.out.norm.weight"
    for name in (
        "encoder.layer.0.attention.self.query.lora_A.weight",
        "encoder.layer.0.pooler.dense.weight",
        "attention.self.query.weight",
        "cls.seq_relationship.bias",
        "encoder.layer.0.crossattention.self.query.weight",
        "embeddings.position_ids",
    ):
        assert parameter_name(name, BERT) is None
