"""How figures are shown: tables, Markdown, JSON lines and plots.

May import: nothing else of launch.
"""
