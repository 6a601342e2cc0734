"""Benchmarks: protocols that turn a folder of data into a table of methods, resumable, comparable.

`protocol` and `case` are the contracts, one file a protocol; `runner` drains them into `results` and `store`;
`statistics`, `table` and `compare` read them. Stands above the pipelines; the command line and reports stand above it.
"""
