"""The model in floating point: over the folded weights, as transformers runs it, and as a student to train.

`reference` is what heads make of the `encoder`; `huggingface` and `pipelines` run the published model.
May import: checkpoints, texts and the public facts of a model.
"""
