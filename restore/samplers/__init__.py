"""Samplers: one file each, found by the file's name (`restore.registry`); the other files are their shared toolbox."""
