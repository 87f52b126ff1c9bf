"""The private programs, a file a model family: one input from tokens to the answer, read from top to bottom.

May import: formats, protocols and the public facts of a model.
"""
