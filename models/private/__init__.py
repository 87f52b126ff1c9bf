"""A private model as a whole: from its name to the public program, its parameters, its plans and its oracle.

May import: all of models.
"""
