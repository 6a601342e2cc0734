"""Files to and from an archive by DICOMweb: `archive` speaks with it, `pulling` and `pushing` move what is asked for.

Used by the verbs `restore pull` and `restore push`. What was moved is not moved again, and
files appear whole or not at all.
"""
