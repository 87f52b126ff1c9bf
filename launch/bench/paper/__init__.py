"""`mpcnet bench paper`: the tables of the SecFormer paper, measured here, beside the paper's own figures.

May import: what a benchmark may.
"""
