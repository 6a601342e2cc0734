"""SIGTERM and SIGHUP end a run as Ctrl-C does: what is half-written is removed, one sentence, a code of its own.

Used by the frame of the command line only; sets the handlers of this process.
"""

from __future__ import annotations

import signal
from types import FrameType

NAMES = ("SIGTERM", "SIGHUP")
"""Those that there are: Windows has no SIGHUP."""


TO_BE_CONTINUED = 75
"""EX_TEMPFAIL of sysexits.h: not done yet, the same command goes on."""


class Ended(KeyboardInterrupt):
    """A signal that asks this process to end; passes wherever Ctrl-C does.

    goes_on: the verb at work has kept what is finished, and the same command goes on with it.
    """

    def __init__(self, number: int) -> None:
        self.name, self.goes_on = signal.Signals(number).name, False
        self._number = number
        super().__init__(self.name)

    @property
    def exit_code(self) -> int:
        """128 and the signal's number; `TO_BE_CONTINUED` after SIGTERM, by which schedulers end, of what goes on."""
        ended_by_scheduler = self.name == "SIGTERM" and self.goes_on
        return TO_BE_CONTINUED if ended_by_scheduler else 128 + self._number


_received: list[Ended] = []


def received() -> Ended | None:
    """The signal that asked this process to end, if one did: the frame of the command line may see a mere Ctrl-C."""
    return _received[-1] if _received else None


def listen() -> None:
    """Raise `Ended` in the main thread when such a signal comes; one that was ignored (nohup) stays so."""
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one does not disturb the tidying up
    _received.append(Ended(number))
    raise _received[-1]
