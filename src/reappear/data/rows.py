import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from reappear.core import SPLITS, ImageTable, Split

_LARGEST = 2**63 - 1
_NOT_TEXT = "its name is not UTF-8 text; rename it"


class Rows:
    """The rows of a table while a reader finds them, in a few bytes each beside their path."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._numbers = array("q")
        self._times = array("d")
        self._split = array("b")
        self._skipped: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._path)

    def add(
        self,
        path: str,
        *,
        identity: int,
        camera: int = -1,
        sequence: int = -1,
        split: Split = "train",
        frame: int = -1,
        time: float = math.nan,
    ) -> None:
        """One image; left out where its path or numbers cannot be stored."""
        numbers = (identity, camera, sequence, frame)
        if min(numbers) < -_LARGEST or max(numbers) > _LARGEST:
            self.skip(path, "a number of more than 64 bits")
            return
        if not _is_text(path):
            self.skip(path, _NOT_TEXT)
            return
        self._path.append(path)
        self._numbers.extend(numbers)
        self._times.append(time)
        self._split.append(SPLITS.index(split))

    def add_if(self, problem: str, path: str, **labels: Any) -> None:
        """One image, as `add` takes it, unless there is a problem with it."""
        if problem:
            self.skip(path, problem)
        else:
            self.add(path, **labels)

    def skip(self, path: str, reason: str) -> None:
        """One file that is left out."""
        self._skipped[path if _is_text(path) else path.encode(errors="backslashreplace").decode()] = reason

    @property
    def skipped(self) -> int:
        """How many files are left out."""
        return len(self._skipped)

    def reason(self) -> str:
        """Why the first of them is."""
        return next(iter(self._skipped.values()), "there are none")

    def table(self, names: Sequence[str] = (), cameras: Sequence[str] = ()) -> ImageTable:
        """All rows; `names` and `cameras` are those of identities and cameras where the set does not number them."""
        identity, camera, sequence, frame = np.array(self._numbers, np.int64).reshape(-1, 4).T.copy()
        split = np.array(SPLITS)[np.array(self._split, np.int64)]
        path = np.array(self._path, np.str_)
        return ImageTable(
            path,
            identity,
            camera,
            sequence,
            split,
            self._skipped,
            tuple(names),
            tuple(cameras),
            frame,
            np.array(self._times, np.float64),
        )


def _is_text(path: str) -> bool:
    """Whether Parquet and JSON can hold it: no half of a surrogate pair, no NUL, no bytes that are not UTF-8."""
    if path.isascii():
        return "\0" not in path
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in path
