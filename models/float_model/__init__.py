"""The model in floating point: over the folded weights, as transformers runs it, and as a student to train.

May import: checkpoints, texts and the public facts of a model.
"""
