"""Fixed-point formats: what values may reach, proved or calibrated, and the ring widths that hold it.

May import: float_model, checkpoints, texts and the public facts of a model.
"""
