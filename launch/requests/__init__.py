"""From texts to requests and from results to answers, the same for every command.

May import: models only.
"""
