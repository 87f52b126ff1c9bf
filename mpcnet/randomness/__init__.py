"""Masks and dealt correlations: how they are made, expanded from seeds, and counted.

`source` is what a program asks; `dealer` and `meter` are the assistant's and the planner's answers to it. `prg`, `fss`
and `onehot` are what they are made of.
May import: arrays, ledger, rounds, errors.
"""
