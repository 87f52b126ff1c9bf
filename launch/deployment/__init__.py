"""What lies in the folders of a deployment: keys, certificates, settings and the public program.

May import: the options of commands, reporting.
"""
