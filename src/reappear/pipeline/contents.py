"""What an input is: a hash of everything that a step may read of it, so that any change makes the step run anew."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reappear.core import SILENT, ImageTable, Progress
from reappear.data import container
from reappear.store import FileHashes

_BLOCK = 8192


def hash_files(files: Mapping[str, Path], hashes: FileHashes) -> dict[str, str]:
    """Name → hash of the content of each file.

    Raises:
        InputError: A file is missing or cannot be read.
    """
    return {name: hashes.sha256(path) for name, path in files.items()}


def hash_images(table: ImageTable, hashes: FileHashes, *, progress: Progress = SILENT) -> str:
    """The hash of the contents of all images in their order, and of nothing else: what embeddings depend on.

    An image inside a tar or Parquet file counts as the hash of that file and its place there. One that cannot be read
    counts as unreadable.
    """
    digest = hashlib.sha256()
    with progress.task("hashing", len(table), "image") as tick:
        for begin in range(0, len(table), _BLOCK):
            paths = table.path[begin : begin + _BLOCK].tolist()
            files = [container(path) for path in paths]
            for path, file, found in zip(paths, files, hashes.each(files), strict=True):
                digest.update(f"{found or 'unreadable'}{path.removeprefix(file)}\n".encode())
            tick(len(paths))
    return digest.hexdigest()[:16]


def hash_value(value: Any, *, root: Path) -> str:
    """The hash of a value of plain data, arrays and dataclasses with all their fields; paths count from `root`.

    Args:
        value: Such as an `ImageTable`, of which it takes all labels; its images are for `hash_images`.
        root: Text that begins with this folder counts without it, so that a set may be moved.

    Raises:
        TypeError: A field has a type whose content is not known here.
    """
    digest = hashlib.sha256()
    for piece in _pieces(value, f"{root}{os.sep}"):
        digest.update(b"%d:" % len(piece) + piece)
    return digest.hexdigest()[:16]


def _pieces(value: Any, prefix: str) -> Iterable[bytes]:
    """The value as bytes: each piece is written with its length, so that different values never look alike."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield field.name.encode()
            yield from _pieces(getattr(value, field.name), prefix)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.kind}{value.shape}".encode()
        for begin in range(0, len(value), _BLOCK):
            some = value[begin : begin + _BLOCK]
            if some.dtype.kind in "biu":
                yield some.astype("<i8").tobytes()
            elif some.dtype.kind == "f":
                yield some.astype("<f8").tobytes()
            else:
                for text in some.ravel().tolist():
                    yield from _pieces(text, prefix)
    elif isinstance(value, Path):
        yield from _pieces("." if f"{value}{os.sep}" == prefix else str(value), prefix)
    elif isinstance(value, str):
        yield value.removeprefix(prefix).encode("utf-8", "surrogateescape")
    elif isinstance(value, Mapping):
        yield f"mapping of {len(value)}".encode()
        for key, item in value.items():
            yield from _pieces(key, prefix)
            yield from _pieces(item, prefix)
    elif isinstance(value, list | tuple):
        yield f"list of {len(value)}".encode()
        for item in value:
            yield from _pieces(item, prefix)
    elif value is None or isinstance(value, bool | int | float):
        yield repr(value).encode()
    else:
        raise TypeError(f"no content hash of a {type(value).__name__}")
