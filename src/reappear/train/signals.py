"""A signal to stop is heard at the end of a step."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from reappear.core import STOP_SIGNALS


@contextmanager
def held_signals() -> Iterator[Callable[..., bool]]:
    """Holds SIGTERM and SIGINT back; yields what tells whether one came.

    Called with `obey=True`, it lets the signal do what it would have done. A signal that is ignored stays ignored.
    """
    came: list[int] = []
    before: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)

    def restore() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, handler)

    def asked_to_stop(*, obey: bool = False) -> bool:
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
        except ValueError:  # not the main thread: whoever runs us there handles signals
            break
    try:
        yield asked_to_stop
    finally:
        restore()
