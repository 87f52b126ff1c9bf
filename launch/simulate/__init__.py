"""`mpcnet simulate`: ask a model privately on one machine, and show the answers beside the published model's.

May import: the API, requests, reporting and the options of commands.
"""
