"""Files of weights that others wrote: what is in them, without executing anything of theirs.

`reading.py` is the door; `pickles.py` runs as a limited process of its own. Used by the pipelines of `restore models`.
"""
