"""Checks of tables of columns, and offsets of runs."""

import numpy as np

from .errors import InputError


def require_equal_length(table: object, *names: str) -> None:
    """Raises InputError for columns of unequal length."""
    lengths = {name: len(getattr(table, name)) for name in names}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{type(table).__name__}: columns must have one length, got {found}")


def require_offsets(offsets: np.ndarray, rows: int, name: str) -> None:
    """Raises InputError unless offsets split `rows` rows into consecutive, possibly empty, runs."""
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != rows or np.any(np.diff(offsets) < 0):
        raise InputError(f"{name}: must rise from 0 to the number of rows ({rows}), got {offsets[:3]}...{offsets[-3:]}")


def lengths_to_offsets(lengths: np.ndarray) -> np.ndarray:
    """Offsets of consecutive runs of these lengths.

    >>> lengths_to_offsets(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def offsets_to_owner(offsets: np.ndarray) -> np.ndarray:
    """The run of each row.

    >>> offsets_to_owner(np.array([0, 2, 2, 5])).tolist()
    [0, 0, 2, 2, 2]
    """
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
