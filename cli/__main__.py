"""`python -m restore.cli`: the same as the command `restore`."""

from __future__ import annotations

from restore.cli import main

main()
