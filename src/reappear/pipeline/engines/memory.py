"""Bounds the memory of a step: matrices that do not fit are memory-mapped temporary files."""

import mmap
import os
import re
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from reappear.core import Engine, SettingsError
from reappear.store import disk_errors

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

_UNITS = {"": 10**9, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_MOST = 10**15


def parse_memory(text: float | str) -> int:
    """Bytes of an amount such as `4GB`, `1.5 GiB`, or a number alone, which counts GB.

    Raises:
        SettingsError: The text is not an amount of memory.

    >>> parse_memory("512 MB"), parse_memory(2), parse_memory("1GiB")
    (512000000, 2000000000, 1073741824)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?I?B?)\s*", str(text).upper())
    unit = found[2] if found else None
    unit = unit + "B" if unit and not unit.endswith("B") else unit
    if found is None or unit not in _UNITS or not 0 < float(found[1]) * _UNITS[unit] <= _MOST:
        raise SettingsError(f"memory: must be an amount such as 4GB, 1.5GiB or 800MB, got {text!r}")
    return int(float(found[1]) * _UNITS[unit])


def format_memory(size: int) -> str:
    """Bytes as `parse_memory` reads them.

    >>> format_memory(1_234_000_000), format_memory(310_000_000)
    ('1.3GB', '310MB')
    """
    return f"{-(-size // 10**8) / 10:g}GB" if size >= 10**9 else f"{-(-size // 10**7) * 10:g}MB"


class Bounded:
    """An engine with matrices in memory up to a limit, then in temporary memory-mapped files.

    Resident pages of such files count in the resident memory that the system reports, but unlike private memory the
    system reclaims them when needed.

    Args:
        engine: Does the work.
        folder: Where files go.
        limit: Bytes of memory for matrices, all together.
        memory_bytes: Bytes of memory for lists.
    """

    def __init__(self, engine: Engine, folder: Path, limit: int, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self._engine = engine
        self._folder = folder
        self._left = limit
        self._mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def map(self, function: Callable[[S, T], R], shared: S, items: Iterable[T]) -> Iterator[R]:
        """See `Engine.map`. Pages of files are released after each piece."""
        for result in self._engine.map(function, shared, items):
            yield result
            for mapped in self._mapped:
                mapped.madvise(mmap.MADV_DONTNEED)

    def zeros(self, rows: int, width: int) -> Float[np.ndarray, "rows width"]:
        """A float32 matrix of zeros.

        Raises:
            StorageError: The disk is full.
        """
        size = 4 * rows * width
        if size > self._left:
            return self._in_file(rows, width)
        self._left -= size
        made = np.zeros((rows, width), np.float32)
        weakref.finalize(made, self._give_back, size)
        return made

    def _give_back(self, size: int) -> None:
        self._left += size

    def _in_file(self, rows: int, width: int) -> Float[np.ndarray, "rows width"]:
        with disk_errors(self._folder), tempfile.TemporaryFile(dir=self._folder) as file:
            # Allocated now: running out of disk later, page by page, would kill the process with SIGBUS.
            os.posix_fallocate(file.fileno(), 0, 4 * rows * width)
            made = np.memmap(file, np.float32, "r+", shape=(rows, width))
        mapped: object = made.base
        if isinstance(mapped, mmap.mmap):
            self._mapped.add(mapped)
        return np.asarray(made)  # a plain one, which Ray shares among its workers
