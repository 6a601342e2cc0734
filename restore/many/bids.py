"""Which files of a BIDS tree are meant: by participant, session, and the entities in their names.

Called by `inputs` and the command line; looks at names alone. BIDS (Gorgolewski et al. 2016) calls files
sub-01/ses-2/anat/sub-01_ses-2_run-1_T1w.nii.gz: entities with dashes, then the suffix; `datatype` is the folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from restore.config import parse_assignments
from restore.datasets.atomic import name_suffix
from restore.errors import ConfigError

DESCRIPTION = "dataset_description.json"
NOT_RAW = ("derivatives", "sourcedata", "code", "stimuli")
"""Folders of a tree's first level that hold no raw data of its own."""
SUFFIX, DATATYPE = "suffix", "datatype"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Labels of participants and sessions, and entities by name with the labels that will do; none: all."""

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    entities: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def parse(cls, participants: list[str], sessions: list[str], entities: list[str]) -> Wanted:
        """From words of a command line: labels with or without sub- and ses-, NAME=LABEL; commas separate labels.

        Raises ConfigError.
        """
        told = parse_assignments(_words_kept_together(entities))
        return cls(
            tuple(word.removeprefix("sub-") for word in _labels(participants)),
            tuple(word.removeprefix("ses-") for word in _labels(sessions)),
            tuple((name, tuple(_labels([value]))) for name, value in told.items()),
        )

    @property
    def asks(self) -> bool:
        """Whether anything was chosen."""
        return bool(self.participants or self.sessions or self.entities)

    def fits(self, found: Mapping[str, str]) -> bool:
        """Whether a file of these entities is meant."""
        chosen = {"sub": self.participants, "ses": self.sessions} | dict(self.entities)
        return all(not labels or found.get(name) in labels for name, labels in chosen.items())

    def __str__(self) -> str:
        chosen = {"participant": self.participants, "session": self.sessions} | dict(self.entities)
        return ", ".join(f"{name} {' or '.join(v)}" for name, v in chosen.items() if v)


def is_tree(folder: Path) -> bool:
    """Whether a folder is the root of a BIDS tree: it says so, or has participants."""
    return (folder / DESCRIPTION).is_file() or any(p.is_dir() for p in folder.glob("sub-*"))


def no_tree(folder: Path) -> tuple[str, str]:
    """Why participants cannot be chosen here, and what to do, for an InputError."""
    why = f"no BIDS tree: it has neither {DESCRIPTION} nor folders sub-..."
    return why, "leave out --participant-label, --session-label and --bids, or give the tree's root"


def entities(file: Path) -> tuple[tuple[str, str], ...]:
    """The entities of a file's name with its `suffix` and `datatype`; of other names what there is."""
    stem = file.name.removesuffix(name_suffix(file))
    *pairs, last = stem.split("_")
    found = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    if "-" not in last:
        found[SUFFIX] = last
    if "sub" in found and not file.parent.name.startswith(("sub-", "ses-")):
        found[DATATYPE] = file.parent.name
    return tuple(found.items())


def _labels(words: list[str]) -> list[str]:
    return [label.strip() for word in words for label in word.split(",") if label.strip()]


def _words_kept_together(texts: list[str]) -> list[str]:
    """NAME=A,B,OTHER=C as NAME=A,B and OTHER=C. Raises ConfigError for a text without a name."""
    found: list[str] = []
    for word in _labels(texts):
        if "=" in word:
            found.append(word)
        elif found:
            found[-1] += f",{word}"
        else:
            raise ConfigError(f"--bids is written NAME=LABEL, such as suffix=T1w, got '{word}'")
    return found
