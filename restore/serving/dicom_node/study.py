"""The record of one study that came to the node: its state and those of its series, in a file of its folder.

    SPOOL/BEGAN-MARK/state.json       this record, written anew at every change
                     in/SERIES/INSTANCE.dcm    what came, named by marks
                     out/SERIES/               the derived series, whole or not there
                     out/SERIES.sent           instances that the target has acknowledged, a mark a line

A record holds marks, counts, states and sentences, nothing of a patient. Used by all parts of the node; one part at a
time owns a study, by its state: receiving (intake), complete and working (worker), sending (sender), done, failed.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from restore.datasets.json_text import read_json, write_json
from restore.errors import InputError

State = Literal["receiving", "complete", "working", "sending", "done", "failed"]
SeriesState = Literal["waiting", "skipped", "made", "sent", "failed"]
STATE_FILE = "state.json"
MARK_DIGITS = 16
SHOWN_DIGITS = 12


def mark_of(uid: str) -> str:
    """The first 16 digits of the sha256 of a UID: its name in the spool."""
    return hashlib.sha256(uid.encode()).hexdigest()[:MARK_DIGITS]


@dataclass
class SeriesRecord:
    """A series of a study. images: that lie in the spool; told: that its headers say there are, 0 if they do not;
    text: what became of it, a sentence; instances: marks of its images, once the study is complete.
    """

    mark: str
    told: int = 0
    state: SeriesState = "waiting"
    text: str = ""
    images: int = 0
    instances: list[str] = field(default_factory=list)


@dataclass
class StudyRecord:
    """A study in its folder. mark: of its UID; peer: AE title that sent it; began, ended: seconds since 1970;
    told: images that its headers say there are, 0 if they do not; cut: an association ended in the middle of it;
    refused: marks of images that were not taken; too_large: it went over a limit; forced: what came is processed
    though it may not be all; tries: failed attempts of the present state; text: what became of it, a sentence.
    """

    folder: Path
    mark: str
    peer: str
    began: float
    state: State = "receiving"
    ended: float = 0.0
    told: int = 0
    cut: bool = False
    forced: bool = False
    too_large: str = ""
    refused: list[str] = field(default_factory=list)
    tries: int = 0
    due: float = 0.0
    text: str = ""
    series: dict[str, SeriesRecord] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How the study is called in messages."""
        return f"study {self.mark[:SHOWN_DIGITS]}"

    @property
    def images(self) -> int:
        """Images of all series."""
        return sum(series.images for series in self.series.values())

    def source(self, series: SeriesRecord) -> Path:
        """The folder of a series as it came."""
        return self.folder / "in" / series.mark

    def derived(self, series: SeriesRecord) -> Path:
        """The folder of the series that was made of one; there only when it is whole."""
        return self.folder / "out" / series.mark

    def of_state(self, *states: SeriesState) -> list[SeriesRecord]:
        """The series that are in one of these states."""
        return [series for series in self.series.values() if series.state in states]

    def save(self) -> None:
        """Write the record, at once and whole. Raises OutputError."""
        self._write(self.state)

    def enter(self, state: State) -> None:
        """Write the record in another state, then hand the study to the part that owns it there.

        In this order, so that two parts never write at a time. Raises OutputError, with the state as it was.
        """
        self._write(state)
        self.state = state

    def _write(self, state: State) -> None:
        told = asdict(self) | {"state": state}
        del told["folder"]
        write_json(self.folder / STATE_FILE, told)


def load_study(folder: Path) -> StudyRecord:
    """The study in a folder of the spool. Raises NotFoundError, InputError for what is no record of ours."""
    told = read_json(folder / STATE_FILE)
    try:
        series = {mark: SeriesRecord(**values) for mark, values in told.pop("series").items()}
        study = StudyRecord(folder, series=series, **told)
        _check(study)
    except (TypeError, KeyError, AttributeError, ValueError) as cause:
        raise InputError(
            folder / STATE_FILE, "no record of a study", "move the folder out of the spool"
        ) from cause
    return study


def _check(study: StudyRecord) -> None:
    """Raise ValueError for values that the node did not write: marks become names of files."""
    states: list[Any] = [s.state for s in study.series.values()]
    marks = [study.mark, *study.series, *(s.mark for s in study.series.values())]
    fit = all(len(m) == MARK_DIGITS and int(m, 16) >= 0 for m in marks)
    known = study.state in get_args(State) and all(s in get_args(SeriesState) for s in states)
    if not (fit and known):
        raise ValueError("not of the node")
