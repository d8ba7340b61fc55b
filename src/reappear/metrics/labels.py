"""Numbers of people, cameras or images as they come from outside."""

from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, counted


def label_numbers(
    query: Any, gallery: Any, rows: tuple[int, int], name: str
) -> tuple[Int[np.ndarray, " q"], Int[np.ndarray, " g"]]:
    """Labels of queries and gallery as int64: whole numbers of any dtype by their value, -1 = none.

    Values beyond int64 have no place there; then all labels of both are numbered from 0 in rising order.

    Args:
        query: One label for each query; None = -1 for all.
        gallery: Likewise.
        rows: How many there must be of either.
        name: What they are, for the message: "ids" or "cameras".

    Raises:
        InputError: There are more or fewer, they are not whole numbers, or one is negative and not -1.
    """
    columns = [
        _checked(column, f"{side}_{name}", count)
        for column, side, count in zip((query, gallery), ("query", "gallery"), rows, strict=True)
    ]
    if all(np.can_cast(column.dtype, np.int64) or column.max(initial=0) < 1 << 63 for column in columns):
        first, second = (column.astype(np.int64) for column in columns)
        return first, second
    values = [column.tolist() for column in columns]  # Python's own numbers: int64 beside uint64 would become floats
    number = {value: place for place, value in enumerate(sorted({*values[0], *values[1]} - {-1}))} | {-1: -1}
    first, second = (np.array([number[value] for value in column], np.int64) for column in values)
    return first, second


def _checked(given: Any, name: str, rows: int) -> np.ndarray:
    column: np.ndarray = np.full(rows, -1) if given is None else np.asarray(given)
    if column.shape != (rows,):
        got = len(column) if column.ndim == 1 else f"an array of shape {column.shape}"
        raise InputError(f"{name}: must have one value for each of {counted(rows, 'feature')}, got {got}")
    if column.dtype.kind not in "iu":
        first = str(column[0]) if len(column) else ""
        raise InputError(
            f"{name}: must be whole numbers, got {column.dtype} such as {first!r}; number the names of queries and "
            f"gallery together, as np.unique(np.concatenate([query, gallery]), return_inverse=True)[1] does"
        )
    if column.min(initial=0) < -1:
        raise InputError(f"{name}: must be 0 or more, or -1 for none, got {column.min()}; renumber them")
    return column
