"""Engines that spread a list of jobs over processes and machines: the same outcomes as in this process."""
