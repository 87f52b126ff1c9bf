"""How results are shown: screens, files, tables, Markdown, JSON lines and plots.

May import: nothing else of launch.
"""
