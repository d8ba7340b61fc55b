"""Interface for progress listeners."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """A listener. The command line shows bars with an ETA on a terminal and plain lines elsewhere."""

    def task(self, title: str, total: int | None, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Opens a task of `total` units (None = unknown); `unit` is what is counted, in the singular: "frame".

        The yielded function takes the number of units done since its last call.
        """
        ...

    def note(self, text: str) -> None:
        """Shows one line: something skipped, decided or done."""
        ...


class Silent:
    """Ignores everything."""

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        """See `Progress.task`."""
        yield lambda done: None

    def note(self, text: str) -> None:
        """See `Progress.note`."""


SILENT: Progress = Silent()
