"""The cases of a protocol whose truth is known, one after another. Called by what is measured once for a table:
calibration and the choice of starts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from restore.bench.case import Case
from restore.bench.protocol import Protocol, Setting
from restore.errors import InputError


def known_cases(protocol: Protocol) -> Iterator[tuple[str, Path, Setting, Case]]:
    """Volume, file, setting and case, for every volume and setting that the protocol has a case of.

    A case is closed when the next one is asked for; estimated maps are kept for this walk alone. Raises InputError (a
    volume without a truth) and what measuring raises.
    """
    with tempfile.TemporaryDirectory() as caches:
        for volume, path in protocol.volumes().items():
            for setting in protocol.settings():
                case = protocol.open(volume, setting, Path(caches))
                if case is None:
                    continue
                if case.reference is None:
                    raise InputError(path, "no truth to compare with", "leave it out")
                yield volume, path, setting, case
                protocol.close(volume, setting, Path(caches))
