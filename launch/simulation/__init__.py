"""All parties as processes of one machine, over its loopback or over made networks.

May import: party, deployment, requests, reporting and the options of commands.
"""
