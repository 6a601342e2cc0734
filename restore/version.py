"""The version of the program, where every layer may read it: `restore.__version__` is the same."""

__version__ = "0.1.0"
