"""Training: a resumable loop, and SecFormer's distillation on it.

May import: float_model, checkpoints, texts and the public facts of a model.
"""
