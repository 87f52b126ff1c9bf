"""`mpcnet doctor`: what is wrong with a deployment's folder, host or peers, and what to do.

May import: party, deployment, reporting and the options of commands.
"""
