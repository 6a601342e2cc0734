"""What is said of slices whose object reaches the edges of the field of view (`coil_maps.field_is_cut`).

May be called by the set-up of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

CUT = "the object reaches the edges of the field of view"
"""How the note begins."""


def note_cut(notes: list[str], name: str, *, widens: bool) -> None:
    """Add a note on a slice, unless there is one on another. widens: such slices have two sets of maps."""
    if any(note.startswith(CUT) for note in notes):
        return
    then = (
        "such slices have two sets of maps, and their image is the root sum of squares of both components, as the "
        "coils see it; --maps-sets 1 takes one, in half the time, and leaves artefacts"
        if widens
        else "one set of maps cannot change from one edge to the other, and artefacts lie along the undersampled axis; "
        "--maps-sets 2 takes them away, in about twice the time"
    )
    notes.append(
        f"{CUT} or lies beyond them (a second set of coil maps is seen in {name}, in others perhaps): {then}"
    )
