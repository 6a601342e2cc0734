"""What is said of slices whose object reaches the edges of the field of view.

May be called by the set-up of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

from torch import Tensor

from restore.operators.mri.coil_maps import Region, field_is_cut

CUT = "the object reaches the edges of the field of view"
"""How the note begins."""


def note_cut(notes: list[str], kspace: Tensor, region: Region | None, name: str) -> None:
    """Add a note on a slice whose field of view is cut, unless there is one on another slice.

    kspace: complex (coils, H, W); region: its calibration lines, None to be found; name: of the slice. Raises
    ConfigError.
    """
    if any(note.startswith(CUT) for note in notes) or not field_is_cut(kspace, region):
        return
    notes.append(
        f"{CUT} or lies beyond them (a second set of coil maps is seen in {name}, in others perhaps): one set of maps "
        "cannot change from one edge to the other, and artefacts lie along the undersampled axis; --maps-sets 2 takes "
        "them away, in about twice the time"
    )
