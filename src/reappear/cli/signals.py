"""Handles Ctrl-C and SIGTERM."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 130  # the exit code of shells for Ctrl-C
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived. No KeyboardInterrupt: Click ends on those without a message."""


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """SIGINT and SIGTERM inside the block end the command with one line and exit code 130.

    Finished work is kept. Signals ignored by the caller (`nohup`, background jobs of shells) stay ignored.
    """
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        for number in heeded:
            signal.signal(number, _raise_stopped)
        yield
    except Stopped:
        _ignore(heeded)
        if is_first_process():
            sys.stderr.write("reappear: stopped; the same command continues\n")
        sys.exit(STOPPED)
    finally:
        _ignore(heeded)  # while Python shuts down, which takes a moment


def is_first_process() -> bool:
    """Whether this process prints: rank 0 under torchrun, else true."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _ignore(numbers: list[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
