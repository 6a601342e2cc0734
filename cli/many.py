"""Every verb with many inputs: folders, globs, BIDS trees, several names; in parts; one bad file aside.

Used by `cli/config_option.py`, which gives a verb's command these options. A verb says with `Many` what it reads and
how results are called; this file makes jobs of what is there, has them run (`restore.many.runner`), says what became of
each, and keeps the list `restore-jobs.jsonl` beside the results.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console, signals

if TYPE_CHECKING:
    from restore.many.inputs import Holds, Input, Listing
    from restore.many.jobs import Job, Outcome
    from restore.many.parts import Part
    from restore.many.runner import Engine
    from restore.priors.split_rows import Borders

Options = dict[str, Any]
_OF_ENGINES = ("engine", "address", "split_image")
HERE = "here"
"""The engine that is this process."""
ONLY_LIST = "restore.many.only_list"
"""Where a context may keep a list: jobs are then put there and not run (`restore submit`)."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which of many inputs are meant, and what does them: options of every verb that takes many."""

    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Of many inputs every N-th from the K-th. Default: the task's share in a Slurm array job, else all.",
        ),
    ] = None
    participant_label: Annotated[
        list[str] | None,
        typer.Option("--participant-label", metavar="LABEL,...", help="Of a BIDS tree these only."),
    ] = None
    session_label: Annotated[
        list[str] | None,
        typer.Option("--session-label", metavar="LABEL,...", help="Of a BIDS tree these only."),
    ] = None
    bids: Annotated[
        list[str] | None,
        typer.Option(
            "--bids",
            metavar="NAME=LABEL,...",
            help="Of a BIDS tree files of these entities: suffix=T1w,datatype=anat.",
        ),
    ] = None
    engine: Annotated[
        str,
        typer.Option(
            metavar="here|processes:N|ray[:N]",
            help="What does the inputs: this process, N processes, or an actor for every GPU (or processor) of Ray.",
        ),
    ] = HERE
    address: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Of a cluster of Ray; default: this machine alone."),
    ] = ""
    split_image: Annotated[
        bool,
        typer.Option(
            "--split-image", help="Of one input: share each image among --engine's processes, as strips of rows."
        ),
    ] = False  # fmt: skip

    @property
    def given(self) -> list[str]:
        """The options that choose among inputs and were typed, as they are written."""
        names = [f.name for f in dataclasses.fields(self) if f.name not in _OF_ENGINES]
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]


def with_series(entry: Input, options: Options) -> Options:
    """The options of a job that reads a volume: of a folder with several series this one."""
    return options | {"series": entry.series} if entry.series else options


@dataclasses.dataclass(frozen=True)
class Many:
    """How a verb takes many inputs.

    argument: the parameter of its inputs. holds: what they are. several: whether several names are several inputs; else
    the verb itself takes them together, or one. suffix: of results in a folder OUT; "" keeps the inputs' names; None
    where the verb has no OUT. of_folders: the suffix for inputs that are folders, where it is another. each: a job's
    options, from its input and the verb's. job: does one of many; None: as the verb does a single one. after: called
    with the outcomes and the verb's options.
    """

    argument: str
    holds: Holds
    several: bool = True
    suffix: str | None = ""
    of_folders: str | None = None
    each: Callable[[Input, Options], Options] = with_series
    job: Callable[..., Any] | None = None
    after: Callable[[Sequence[Outcome], Options], None] | None = None

    def out(self, options: Options) -> Path | None:
        """Where results go, None where there are none or the verb chooses itself."""
        return None if self.suffix is None else options.get("out")


def run_verb(
    context: typer.Context, verb: str, many: Many, options: Options, choice: Choice
) -> None:
    """Call a verb: once for a single input, job by job for many.

    Raises what the verb raises; of many inputs PartialFailure where some failed, and what is wrong with the list:
    NotFoundError, InputError, ConfigError, OutputError.
    """
    from restore.errors import ConfigError

    if choice.engine != HERE or choice.address or choice.split_image:
        _check_engine(choice)
    given = options[many.argument]
    words = list(given) if isinstance(given, list | tuple) else [given]
    listing = _listing(many, words, options, choice)
    if listing is None:
        if choice.given and choice.given != ["--part"]:
            raise ConfigError(
                f"{choice.given[-1]} is for BIDS trees, and {words[0]} is one input; leave it out"
            )
        value = words[0] if many.several else given
        jobs = [
            _job(verb, words[0].name, words[0], many.out(options), options | {many.argument: value})
        ]
    else:
        jobs = _jobs(verb, many, listing, options)
    if ONLY_LIST in context.meta:
        context.meta[ONLY_LIST].extend(jobs)
        return
    part = part_of(choice, len(jobs))
    mine = part.of(jobs)
    if not mine:
        console.say(f"note: part {part} has none of the {len(jobs)} inputs")
    elif listing is None and choice.engine == HERE:
        call(verb, dict(mine[0].options))
    elif listing is None:
        _run_alone(mine, choice)
    elif choice.split_image:
        raise ConfigError(
            f"--split-image is for one input, and there are {len(jobs)}, which --engine does one by one; leave it out"
        )
    else:
        console.notes(listing.notes)
        run_list(mine, part, options, many.after, choice)


def call(verb: str, options: Options) -> Any:
    """What a verb's function returns for these options, its command's parameters by name."""
    return _CALLS[verb](options)


def work(job: Job) -> Any:
    """Do one job of many; False where its result lay there already. For engines, in any process: importing this file
    imports the package around it, whose verbs put themselves into `_JOBS`.

    The folder of its result is made, and removed again where nothing came into it.
    """
    from restore.errors import ConfigError
    from restore.pipelines.vouching import results_kept

    with _folder_of(job.out), results_kept():
        try:
            return _JOBS[job.verb](dict(job.options))
        except typer.BadParameter as error:
            raise ConfigError(error.message) from error


def register(verb: str, single: Callable[[Options], Any], job: Callable[[Options], Any]) -> None:
    """Keep how a verb is called, so that a job can name it and travel between processes."""
    _CALLS[verb], _JOBS[verb] = single, job


_CALLS: dict[str, Callable[[Options], Any]] = {}
_JOBS: dict[str, Callable[[Options], Any]] = {}


def _job(verb: str, name: str, source: Path, out: Path | None, options: Options) -> Job:
    from restore.many.jobs import Job

    return Job(verb, name, source, out, options)


def _listing(many: Many, words: list[Path], options: Options, choice: Choice) -> Listing | None:
    """The inputs; None where the verb takes what is given as one. Raises NotFoundError, InputError, ConfigError."""
    out, one = many.out(options), words[0]
    if len(words) > 1 and not many.several:
        return None
    if len(words) == 1 and not _is_folder(one) and not _has_wildcards(one):
        return None
    if many.holds == "volume" and len(words) == 1 and options.get("series"):
        return None
    from restore.many import bids
    from restore.many.inputs import NothingFoundError, common_folder, list_inputs
    from restore.many.names import check_root, root_of

    wanted = bids.Wanted.parse(
        choice.participant_label or [], choice.session_label or [], choice.bids or []
    )
    avoid = None
    if out is not None:
        root, folder = root_of(out), common_folder(words)
        inside = folder.resolve() in root.resolve().parents
        avoid = root if inside else None
    folder_alone = len(words) == 1 and one.is_dir() and many.holds in ("scan", "volume", "run")
    try:
        listing = list_inputs(words, many.holds, avoid=avoid, wanted=wanted)
    except NothingFoundError:
        if not folder_alone or wanted.asks:
            raise
        return None  # the verb itself says what the folder is, and what would do
    if folder_alone and _is_one(listing, out, many, one):
        return None
    if out is not None:
        _refuse_file(out, len(listing.inputs))
        check_root(root, folder)
    return listing


def _is_one(listing: Listing, out: Path | None, many: Many, folder: Path) -> bool:
    """Whether a folder is one input as a whole; of several series into a file the verb says how one is chosen."""
    folders = [entry for entry in listing.inputs if entry.source.is_dir()]
    if many.holds == "run":
        return [entry.source for entry in folders] == [folder]
    whole = len(listing.inputs) == 1 and len(folders) == 1 and not folders[0].series
    return whole or (_names_a_file(out) and len(folders) == len(listing.inputs))


def _is_folder(path: Path) -> bool:
    """Whether a folder has this name; names that no file system takes are none."""
    try:
        return path.is_dir()
    except OSError:
        return False  # the verb itself says what is wrong with the name


def _has_wildcards(word: Path) -> bool:
    if not any(c in str(word) for c in "*?["):
        return False
    from restore.many.inputs import is_glob

    return is_glob(word)


def _names_a_file(out: Path | None) -> bool:
    from restore.datasets.atomic import name_suffix

    return (
        out is not None and "{" not in str(out) and bool(name_suffix(out)) and not _is_folder(out)
    )


def _refuse_file(out: Path, count: int) -> None:
    from restore.datasets.atomic import name_suffix
    from restore.errors import OutputError

    if _names_a_file(out) and (out.exists() or name_suffix(out) in _RESULTS):
        raise OutputError(
            f"{out}: is the name of a file, and there are {count} inputs; give a folder, or names such as "
            f"'{out.parent}/{{name}}{name_suffix(out)}'"
        )


_RESULTS = (".nii", ".nii.gz", ".cfl", ".mrd", ".h5", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""What a name ends in that is meant for one file."""


def _jobs(verb: str, many: Many, listing: Listing, options: Options) -> list[Job]:
    """One job an input, with the names of their results. Raises ConfigError, OutputError."""
    from restore.errors import ConfigError
    from restore.many.names import result_names

    if options.get("json") and many.suffix is not None:
        raise ConfigError(
            "--json is for one input; of many every result has its record beside it, and restore-jobs.jsonl lists them"
        )
    outs: list[Path | None] = [None] * len(listing.inputs)
    where = many.out(options)
    if where is not None:
        outs = [*result_names(listing, where, many.suffix or "", many.of_folders)]
    together = isinstance(options[many.argument], list | tuple) and not many.several
    made = []
    for entry, out in zip(listing.inputs, outs, strict=True):
        mine = options | {many.argument: [entry.source] if together else entry.source}
        if out is not None:
            mine["out"] = out
        name = str(entry.name) + (f" series {entry.series[-8:]}" if entry.name == Path() else "")
        made.append(_job(verb, name, entry.source, out, many.each(entry, mine)))
    return made


def part_of(choice: Choice, count: int) -> Part:
    """The share of so many jobs that this process has. Raises ConfigError."""
    from restore.many.parts import Part, parse_part, part_of_array

    if choice.part is not None:
        return parse_part(choice.part)
    found = part_of_array(os.environ) if count > 1 else None
    if found is None:
        return Part()
    console.say(
        f"note: part {found} of {count} inputs, as this task of Slurm's array says (--part 1/1: all)"
    )
    return found


def _check_engine(choice: Choice) -> None:
    """Refuse words that name no engine, before any work (ConfigError)."""
    from restore.errors import ConfigError
    from restore.many.engines.named import engine_named

    engine_named(choice.engine, choice.address)
    if choice.split_image and (choice.engine == HERE or choice.engine.endswith(":1")):
        raise ConfigError("--split-image needs several processes; add --engine processes:2, or ray")


def _run_split(job: Job, places: int) -> None:
    """Do the one input here, with processes that answer for strips of its images. Raises what the verb raises."""
    from restore.errors import ConfigError
    from restore.many.engines.split_processes import split_among

    options = dict(job.options)
    if options.get("adapt"):
        raise ConfigError(
            "--split-image: other processes read the prior by its name, and --adapt changes it here; take one of both"
        )
    with split_among(places, "now", str(options.get("device", "auto"))):
        call(job.verb, options)


@contextmanager
def _engine(choice: Choice, count: int) -> Iterator[Engine]:
    """What does the jobs; where that is not this process, one bar shows how far all of them are. Raises ConfigError."""
    from restore.many.engines.crew import Show
    from restore.many.engines.named import engine_named

    if choice.engine == HERE:
        yield engine_named(HERE)
        return
    with console.progress(f"{count} input{'s' * (count > 1)}", total=count) as advance:
        show = Show(console.pass_on, advance)
        split: Borders | None = "now" if choice.split_image else None
        yield engine_named(choice.engine, choice.address, show, split)


def _run_alone(jobs: list[Job], choice: Choice) -> None:
    """Do the one input elsewhere. Raises an error with the code of what it failed of."""
    from restore.many.engines.named import places_of
    from restore.many.runner import raise_failures, run_jobs

    places = places_of(choice.engine)
    if choice.split_image and places:
        _run_split(jobs[0], places)
        return
    with _engine(choice, 1) as engine:
        outcomes = run_jobs(jobs, work, engine=engine)
    raise_failures(outcomes)


def run_list(
    jobs: list[Job],
    part: Part,
    options: Options,
    after: Callable[[Sequence[Outcome], Options], None] | None = None,
    choice: Choice = Choice(),
) -> None:
    """Run jobs, tell each, keep the record, and raise what is to be raised at the end.

    options: the verb's, of which `out` says where the record goes and `dry_run` that there is none. after: of `Many`.
    choice: its engine does them.
    """
    from restore.datasets.atomic import make_folder
    from restore.many.names import root_of
    from restore.many.record import Record
    from restore.many.runner import raise_failures, run_jobs

    record = None
    if jobs and jobs[0].out is not None and not options.get("dry_run"):
        root = root_of(options["out"])
        make_folder(root)
        record = Record(root, jobs, part)
    count = 0

    def tell(finished: int, outcome: Outcome) -> None:
        nonlocal count
        count = finished
        done = "looked at" if options.get("dry_run") else outcome.state
        said = done if outcome.ok else f"failed: {outcome.sentence}"
        console.say(f"[{finished}/{len(jobs)}] {outcome.job.name}: {said}")
        if record is not None:
            record.put(outcome)

    try:
        with _engine(choice, len(jobs)) as engine:
            outcomes = run_jobs(jobs, work, engine=engine, tell=tell)
    except KeyboardInterrupt as ended:
        console.say(
            f"{count} of {len(jobs)} inputs are finished: the same command goes on with the others"
        )
        if isinstance(ended, signals.Ended):
            ended.goes_on = True
        raise
    finally:
        if record is not None:
            record.write()
    if after is not None:
        after(outcomes, options)
    console.failures((o.job.name, o.sentence) for o in outcomes if not o.ok)
    raise_failures(outcomes)


@contextmanager
def _folder_of(out: Path | None) -> Iterator[None]:
    """Make the folder of a result; those that were made and stay empty go again."""
    from restore.datasets.atomic import make_folder

    if out is None:
        yield
        return
    missing = [folder for folder in out.parents if not folder.exists()]
    make_folder(out.parent)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty, or another job's by now
            for folder in missing:
                folder.rmdir()
