"""`mpcnet bench`: the figures that this project claims, as JSON lines that name machine, commit and n.

May import: everything of launch but the other commands.
"""
