"""Defers SIGTERM and SIGINT to the end of a training step."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from reappear.core import STOP_SIGNALS


@contextmanager
def deferred_signals() -> Iterator[Callable[..., bool]]:
    """Defers SIGTERM and SIGINT; yields a function that returns whether one was received.

    Called with `obey=True`, that function restores the handlers and sends the signal again. Signals that the process
    ignores are not deferred.
    """
    came: list[int] = []
    before: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)

    def restore() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, handler)

    def stop_requested(*, obey: bool = False) -> bool:
        if obey:
            restore()
            number = came[0] if came else signal.SIGTERM
            came.clear()
            os.kill(os.getpid(), number)
        return bool(came)

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        try:
            before[number] = signal.signal(number, remember)
        except ValueError:  # not the main thread, where no handler can be set
            break
    try:
        yield stop_requested
    finally:
        restore()
