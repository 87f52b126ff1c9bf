"""A model's folder, read whole: files, tensors, configuration, and weights folded for the private program.

`loading` reads a `checkpoint` from files, `folding` folds it; `families` has a file for each family of models.
May import: texts and the public facts of a model.
"""
