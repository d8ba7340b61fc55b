"""An engine that stores finished pieces, so that a killed step can be resumed."""

import dataclasses
import hashlib
import inspect
import re
import time
import typing
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from reappear import __version__
from reappear.core import SILENT, Engine, Progress
from reappear.store import atomic_write, read_npz, remove_scratch, write_text

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

_EVERY = 5.0  # seconds of work that a kill may cost
_MANY = 16  # pieces from which they are worth a line of progress


class Kept:
    """Stores the results of pieces, and reports progress.

    Stored results are reused if the same call has the same function and items. The folder must belong to one set of
    inputs and settings, so that the matrices are the same.

    Args:
        engine: Does the work.
        folder: Where results are kept; removed by the caller when the whole is done.
        title: What the work is.
        progress: Progress listener.
    """

    def __init__(self, engine: Engine, folder: Path, title: str, progress: Progress = SILENT) -> None:
        self.memory_bytes = engine.memory_bytes
        self._engine = engine
        self._folder = folder
        self._title = title
        self._progress = progress
        self._calls = 0

    def zeros(self, rows: int, width: int) -> Float[np.ndarray, "rows width"]:
        """As the engine has it."""
        return self._engine.zeros(rows, width)

    def map(self, function: Callable[[S, T], R], shared: S, items: Iterable[T]) -> Iterator[R]:
        """`function(shared, item)` for each item.

        Args:
            function: Says in its annotation what it gives: a number, an array, or a dataclass or tuple of these.
            shared: What every piece reads.
            items: All are taken at the start; each shows its value in its `repr`.
        """
        items = list(items)
        chunks = _Chunks(self._folder / f"{self._calls:04d}", function, items)
        self._calls += 1
        progress = self._progress if len(items) >= _MANY else SILENT
        with progress.task(self._title, len(items), "piece") as tick:
            done = 0
            for result in chunks.read():
                yield result
                done += 1
            tick(done)
            begun = saved = time.monotonic()
            fresh: list[R] = []
            for result in self._engine.map(function, shared, items[done:]):
                fresh.append(result)
                yield result
                tick(1)
                now = time.monotonic()
                last = done + len(fresh) == len(items)
                if now - saved >= _EVERY or (last and now - begun >= _EVERY):
                    chunks.write(done, fresh)
                    done, fresh, saved = done + len(fresh), [], now


CHUNKS = ("sign", "[0-9]*.npz")  # names of the files of a call


class _Chunks:
    """Results of one call, some in each file."""

    def __init__(self, folder: Path, function: Callable[..., Any], items: list[Any]) -> None:
        self._folder = folder
        self._function = function
        self._items = items

    def read(self) -> Iterator[Any]:
        """Those that are there, in order from the first."""
        if not self._folder.exists():
            return
        try:
            same = (self._folder / "sign").read_text(encoding="utf-8") == self._sign()
        except FileNotFoundError:
            same = False
        if not same:
            remove_scratch(self._folder, *CHUNKS)
            return
        give = _giver(_code(self._function))
        for path in sorted(self._folder.glob("*.npz")):
            values: dict[str, list[np.ndarray]] = {}
            for name, array in read_npz(path).items():  # in the order in which they were written
                values.setdefault(name.partition(".")[0], []).append(array)
            yield from map(give, values.values())

    def write(self, first: int, results: list[Any]) -> None:
        """Keeps the results of the items from `first`."""
        if not (self._folder / "sign").exists():
            write_text(self._folder / "sign", self._sign())
        arrays = {f"{i}.{k}": value for i, result in enumerate(results) for k, value in enumerate(_values(result))}
        with atomic_write(self._folder / f"{first:09d}.npz") as staging, staging.open("wb") as file:
            np.savez(file, **arrays)

    def _sign(self) -> str:
        """What the call is known by. Where an object lies in memory is no part of it."""
        code = _code(self._function)
        what = (__version__, version("numpy"), code.__module__, code.__qualname__, self._function, self._items)
        return hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", repr(what)).encode()).hexdigest()


def _code(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, also of an object that can be called."""
    return function if inspect.isfunction(function) else type(function).__call__


def _values(result: Any) -> list[Any]:
    if dataclasses.is_dataclass(result):
        return [getattr(result, field.name) for field in dataclasses.fields(result)]
    return list(result) if isinstance(result, tuple) else [result]


def _giver(function: Callable[..., Any]) -> Callable[[list[np.ndarray]], Any]:
    """Restores the function's return type from `_values`."""
    kind: Any = typing.get_type_hints(function)["return"]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return lambda values: kind(*map(_plain, values))
    if typing.get_origin(kind) is tuple:
        return lambda values: tuple(map(_plain, values))
    return lambda values: _plain(values[0])


def _plain(value: np.ndarray) -> Any:
    return value if value.ndim else value.item()
