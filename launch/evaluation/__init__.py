"""`mpcnet evaluate`, `ranges`, `calibrate` and `bench corpus`: how right the private answers are, and on what.

May import: simulation, requests, reporting and the options of commands.
"""
