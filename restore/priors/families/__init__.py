"""Families of published networks: one file each says what its files are and what becomes of them here.

`base.py` is the contract, `known.py` the table. Used by the store and by the pipelines of `restore models`.
"""
