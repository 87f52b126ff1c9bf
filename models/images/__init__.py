"""Images: from a picture to the rows of pixels that a client shares, and what models of images are calibrated on.

May import: texts, and the public facts of a model.
"""
