"""A list of jobs, run one after another by an engine; one that fails does not stop the others.

Called by the command line. An *engine* takes jobs and the work of one and gives their outcomes, in any order, as they
come; `in_process` is the one that needs nothing else, those of `engines/` spread jobs over processes and machines. An
engine that is closed early (its generator's `close`, an interruption) lets go of what it has not begun.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from restore.errors import ConfigError, PartialFailure, RestoreError, expected
from restore.many.jobs import Job, Outcome, State
from restore.priors.kept import weights_kept

Work = Callable[[Job], Any]
"""Does one job; gives False where the same result lay there already, or figures by name. Raises what its verb does."""
Engine = Callable[[Sequence[Job], Work], Iterator[Outcome]]
Tell = Callable[[int, Outcome], None]
"""Hears how many jobs are finished, and the one that is just now."""

SAME_FAULTS = 3
"""So many jobs that fail by one and the same sentence of a setting, with none done, end the list: no other would do."""
NAMED = 10
"""Of the failed jobs in the last sentence; each has a line of its own before."""
_logger = logging.getLogger(__name__)


def run_jobs(
    jobs: Sequence[Job], work: Work, *, engine: Engine, tell: Tell = lambda count, outcome: None
) -> list[Outcome]:
    """Run all jobs and give what became of them, in the order of the list.

    Raises ConfigError for a setting that cannot work with any, and what no job may swallow (an interruption).
    """
    found = dict[str, Outcome]()
    with closing(engine(jobs, work)) as outcomes:  # type: ignore[type-var]
        for outcome in outcomes:
            found[outcome.job.name] = outcome
            tell(len(found), outcome)
            _stop_where_none_will_do(list(found.values()), len(jobs))
    return [found[job.name] for job in jobs]


def in_process(jobs: Sequence[Job], work: Work) -> Iterator[Outcome]:
    """One after another in this process; networks are read once and stay in memory."""
    with weights_kept():
        for job in jobs:
            yield attempt(job, work)


def attempt(job: Job, work: Work) -> Outcome:
    """Do one job; whatever it fails of is its outcome, an interruption alone passes."""
    begin = time.monotonic()
    try:
        found = work(job)
    except BrokenPipeError:
        raise  # nobody listens any more
    except Exception as error:  # of one job: it is told, counted, and the others are done
        _logger.debug("%s", job.name, exc_info=True)
        code, sentence = expected(error) or (1, f"unexpected {type(error).__name__}: {error}")
        return Outcome(job, "failed", time.monotonic() - begin, code, sentence)
    figures = found if isinstance(found, Mapping) else {}
    state: State = "done before" if found is False else "done"
    return Outcome(job, state, time.monotonic() - begin, figures=figures)


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise PartialFailure where some jobs failed, an error with the last one's code where all did."""
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if not failed:
        return
    if len(failed) == len(outcomes):
        raise _error(failed[-1])
    names = ", ".join(outcome.job.name for outcome in failed[:NAMED])
    more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    raise PartialFailure(
        f"{len(failed)} of {len(outcomes)} inputs failed: {names}{more}; the others are done, the same command tries "
        "these again"
    )


def _stop_where_none_will_do(found: Sequence[Outcome], total: int) -> None:
    told = {outcome.sentence for outcome in found}
    enough = len(found) >= min(SAME_FAULTS, total)
    if enough and len(told) == 1 and all(o.exit_code == ConfigError.exit_code for o in found):
        raise _error(found[-1])


def _error(outcome: Outcome) -> RestoreError:
    error = RestoreError(outcome.sentence)
    error.exit_code = outcome.exit_code
    return error
