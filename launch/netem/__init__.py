"""`mpcnet netem`: made networks with delay and bandwidth, probes of them, and experiments on them.

May import: simulation, party, deployment, reporting and the options of commands.
"""
