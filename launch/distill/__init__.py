"""`mpcnet distill`: train a teacher, and a student that private inference runs faster.

May import: reporting and the options of commands.
"""
