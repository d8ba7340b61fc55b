"""Readers of data sets. A new one is one file with a function from a folder to an `ImageTable`, named here."""

import difflib
from collections.abc import Callable
from pathlib import Path

from reappear.core import ImageTable, InputError

from .folder import read_folder
from .labels import TABLE_ENDINGS, Codes, column_names, read_labels
from .market1501 import read_market1501

READERS: dict[str, Callable[[Path], ImageTable]] = {"folder": read_folder, "market1501": read_market1501}

__all__ = ["READERS", "TABLE_ENDINGS", "Codes", "column_names", "read", "read_folder", "read_labels", "read_market1501"]


def read(name: str, root: Path | str) -> ImageTable:
    """Reads a data set.

    Args:
        name: Its layout, one of `READERS`.
        root: Its folder.

    Raises:
        InputError: There is no such layout or folder, or the folder does not have this layout.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(READERS)}"
        raise InputError(f"no data set layout {name!r}; {hint}")
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give the folder that holds the data set")
    return READERS[name](root)
