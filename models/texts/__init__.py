"""Texts: as people give them, as token ids, and as the labelled examples of GLUE.

May import: the public facts of a model beside this folder (shape, pooling, preprocessing).
"""
