"""A result on a local page: the report's viewers, and a second volume to compare with, dropped on it.

`comparison` puts two volumes on one grid, `shown` makes a study of them, which `report/render` writes, `server` hands
it to a browser on this machine.
"""
