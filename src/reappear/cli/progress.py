"""Progress on stderr: bars with an ETA on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Stream(Protocol):
    """A text stream."""

    def write(self, text: str, /) -> object:
        """Writes."""
        ...

    def flush(self) -> None:
        """Flushes."""
        ...

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        ...


def listener(quiet: bool = False, stream: Stream | None = None) -> "PlainLines | Bars":
    """Bars for a terminal, plain lines otherwise."""
    stream = stream or sys.stderr
    if quiet:
        return PlainLines(stream, every=float("inf"))
    return Bars() if stream.isatty() else PlainLines(stream)


class PlainLines:
    """A line when a task starts, at intervals while it runs, and when it ends. For logs and pipes."""

    def __init__(self, stream: Stream, every: float = 10.0) -> None:
        self._stream = stream
        self._every = every

    def _write_line(self, text: str) -> None:
        if self._every != float("inf"):
            self._stream.write(text + "\n")
            self._stream.flush()

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """See `Progress.task`."""
        done, start = 0, time.monotonic()
        last = start

        def advance(units: int) -> None:
            nonlocal done, last
            done += units
            now = time.monotonic()
            if now - last >= self._every:
                last = now
                left = (now - start) * (total - done) / done if total and done else None
                of = f"{done}/{total}" if total else str(done)
                self._write_line(f"{title}: {of}" + (f", {duration(left)} left" if left is not None else ""))

        yield advance
        self._write_line(_ended(title, done, time.monotonic() - start))

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._stream.write(text + "\n")
        self._stream.flush()


class Bars:
    """Bars by rich; finished tasks leave one line."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._depth = 0

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """See `Progress.task`."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        start = time.monotonic()
        done = 0
        if self._depth:  # a nested task: the outer bar stays
            yield lambda units: None
            return
        self._depth += 1
        columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        try:
            with RichProgress(*columns, console=self._console, transient=True) as bars:
                bar = bars.add_task(title, total=total)

                def advance(units: int) -> None:
                    nonlocal done
                    done += units
                    bars.advance(bar, units)

                yield advance
        finally:
            self._depth -= 1
        self._console.print(_ended(title, done, time.monotonic() - start), style="dim", highlight=False)

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._console.print(text, highlight=False, markup=False)


def _ended(title: str, done: int, seconds: float) -> str:
    return f"{title}: {done} in {duration(seconds)}" if done else f"{title}: {duration(seconds)}"


def duration(seconds: float) -> str:
    """Formats seconds for reading.

    >>> duration(3.21), duration(75), duration(7300)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
