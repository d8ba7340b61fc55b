"""How a step tells what it is doing, without knowing who listens."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """A listener. The command line shows bars with an ETA on a terminal and plain lines elsewhere."""

    def task(self, title: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Opens a task of `total` units (`None` when unknown); call what it yields with the units done since."""
        ...

    def note(self, text: str) -> None:
        """One line worth reading: something skipped, something decided, something done."""
        ...


class Silent:
    """Listens to nothing."""

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """See `Progress.task`."""
        yield lambda done: None

    def note(self, text: str) -> None:
        """See `Progress.note`."""


SILENT: Progress = Silent()
