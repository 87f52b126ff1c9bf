"""Models: shapes, checkpoints, texts, number formats, and the programs that compute them privately.

Layers, lowest first: the public facts of a model (files of this folder), `texts`, `checkpoints`, `float_model`,
`formats`, `families`, `private`; `training` stands beside `formats`.
"""
