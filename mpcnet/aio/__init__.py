"""Small helpers for asyncio that know nothing of parties: owned tasks, threads and back-off.

May import: nothing of the project.
"""
