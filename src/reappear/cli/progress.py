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
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        """See `Progress.task`."""
        done, start = 0, time.monotonic()
        last, first = start, (start, 0)

        def advance(units: int) -> None:
            nonlocal done, last, first
            now = time.monotonic()
            if not done:
                first = now, units  # measured from here: a task that goes on advances at once by what is there
            done += units
            if now - last >= self._every:
                last = now
                rate = (done - first[1]) / (now - first[0]) if now > first[0] else None
                self._write_line(f"{title}: {state(done, total, unit, rate)}")

        yield advance
        self._write_line(_ended(title, done, unit, time.monotonic() - start))

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._stream.write(_one_line(text) + "\n")
        self._stream.flush()


class Bars:
    """Bars by rich; finished tasks leave one line."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._depth = 0

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        """See `Progress.task`."""
        from rich.progress import BarColumn, Task, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        class State(TextColumn):
            def render(self, task: Task) -> Text:
                return Text(state(int(task.completed), total, unit, task.speed), no_wrap=True)

        start = time.monotonic()
        done = 0
        if self._depth:  # a nested task: the outer bar stays
            yield lambda units: None
            return
        self._depth += 1
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=16), State(""))
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
        text = _ended(title, done, unit, time.monotonic() - start)
        self._console.print(text, style="dim", highlight=False, markup=False)

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._console.print(_one_line(text), highlight=False, markup=False)


def _one_line(text: str) -> str:
    from reappear.core.files import printable  # with numpy, which the help needs not

    return printable(text)


def state(done: int, total: int | None, unit: str, rate: float | None) -> str:
    """How far a task is, at `rate` units a second, and the time left; bytes are shown in MB.

    >>> state(1234, 10_000, "frame", 12.3), state(3, None, "image", 0.25), state(0, None, "query", None)
    ('1,234/10,000 frames, 12/s, 11 min 52 s left', '3 images, 0.25/s', '')
    """
    if not done and total is None:
        return ""
    scale, digits = (1e6, 1) if unit == "byte" else (1, 0)
    of = "" if total is None else f"/{total / scale:,.{digits}f}"
    parts = [f"{done / scale:,.{digits}f}{of} {_units(done if total is None else total, unit)}"]
    if rate:
        parts.append(f"{rate / scale:,.0f}/s" if rate / scale >= 10 else f"{rate / scale:.2g}/s")
        if total is not None and total > done:
            parts.append(f"{duration((total - done) / rate)} left")
    return ", ".join(parts)


def _units(number: int, unit: str) -> str:
    from reappear.core import plural

    return "MB" if unit == "byte" else unit if number == 1 else plural(unit)


def _ended(title: str, done: int, unit: str, seconds: float) -> str:
    return (
        f"{title}: {state(done, None, unit, None)} in {duration(seconds)}" if done else f"{title}: {duration(seconds)}"
    )


def duration(seconds: int | float) -> str:
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
