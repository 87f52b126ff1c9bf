"""A model's folder, read whole: files, tensors, configuration, and weights folded for the private program.

May import: texts and the public facts of a model.
"""
