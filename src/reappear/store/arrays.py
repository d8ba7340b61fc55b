"""Arrays in NumPy's files, `.npy` and `.npz`."""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reappear.core import InputError, counted, parser_errors, require_regular_file

from .atomic import atomic_write

_MAX_EXPANSION, _ALWAYS = 100, 64 << 20  # embeddings hardly compress; bytes that need no such check


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file as a read-only memory map.

    Raises:
        InputError: The file is missing, is none, is shorter than its header says, or holds Python objects.
    """
    require_regular_file(path)
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":  # numpy.load would try other formats
            raise InputError(f"{path} is not a .npy file of numbers; write one array with numpy.save")
    with _numpy_errors(path, "a .npy file of numbers"):
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))


def write_npy(path: Path, array: np.ndarray) -> None:
    """Writes an array of numbers as a `.npy` file, atomically."""
    with atomic_write(path) as staging, staging.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_npz(path: Path, *keys: str) -> dict[str, np.ndarray]:
    """Those of the arrays `keys` that a `.npz` file has; all of them where none is named.

    Raises:
        InputError: The file is missing, is none, is damaged, would take much more memory than its size, or holds Python
            objects.
    """
    size = require_regular_file(path).st_size
    with _numpy_errors(path, "an .npz file"):
        with zipfile.ZipFile(path) as members:
            expanded = sum(member.file_size for member in members.infolist())
        if expanded > max(_ALWAYS, _MAX_EXPANSION * size):
            raise InputError(
                f"{path} would expand from {size:,} to {counted(expanded, 'byte')}; write it with numpy.savez"
            )
        with np.load(path, allow_pickle=False) as stored:
            return {key: np.asarray(stored[key]) for key in stored.files if not keys or key in keys}


@contextmanager
def _numpy_errors(path: Path, kind: str) -> Iterator[None]:
    with parser_errors(path, kind), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        try:
            yield
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise InputError(
                f"{path} is not {kind}, or holds Python objects, which are never loaded; save numbers or text"
            ) from error
