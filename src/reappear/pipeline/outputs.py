"""Checksums of the files that a step wrote."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reappear.core import SILENT, InputError, Progress
from reappear.store import FileHashes, read_table, write_table

_TABLE = "outputs.parquet"
_MANY = 10_000
_LONG = 1 << 30  # bytes from which hashing is worth a line of progress


@dataclass(frozen=True)
class Output:
    """One file: the SHA-256 of its content in hexadecimal, and its size in bytes."""

    sha256: str
    size: int


def hash_outputs(folder: Path, *, ignore: Collection[str], progress: Progress = SILENT) -> dict[str, Output]:
    """Name → checksum of each file below a folder.

    Of more than 10,000 files, as an export may have, the checksums go into the table `outputs.parquet` beside them, and
    that table is the only one named: a record stays quick to read.

    Args:
        folder: What a step has filled.
        ignore: Names that are no outputs.
        progress: Progress listener.
    """
    (folder / _TABLE).unlink(missing_ok=True)  # of a call that was killed
    found = _hash(folder, output_names(folder, ignore=ignore), progress)
    if len(found) <= _MANY:
        return found
    columns: dict[str, np.ndarray | list[str]] = {
        "name": list(found),
        "sha256": [of.sha256 for of in found.values()],
        "size": np.array([of.size for of in found.values()]),
    }
    write_table(folder / _TABLE, columns)
    return _hash(folder, [_TABLE], SILENT)


def full_outputs(folder: Path, outputs: dict[str, Output]) -> dict[str, Output]:
    """The outputs that a record names, with those of `outputs.parquet` where it names that.

    Raises:
        InputError: The table is missing or damaged.
    """
    if list(outputs) != [_TABLE]:
        return outputs
    rows = read_table(folder / _TABLE, "name", "sha256", "size")
    columns = (rows[name].tolist() for name in ("name", "sha256", "size"))
    return outputs | {name: Output(sha256=one, size=size) for name, one, size in zip(*columns, strict=True)}


def output_names(folder: Path, *, ignore: Collection[str]) -> list[str]:
    """The files below a folder, as paths from there."""
    names = [
        os.path.relpath(os.path.join(parent, name), folder)  # noqa: PTH118 (quicker, and there may be millions)
        for parent, _, files in os.walk(folder)
        for name in files
    ]
    return sorted(name for name in names if name not in ignore)


def _hash(folder: Path, names: list[str], progress: Progress) -> dict[str, Output]:
    out: dict[str, Output] = {}
    sizes = [(folder / name).stat().st_size for name in names]
    shown = progress if sum(sizes) > _LONG else SILENT
    with shown.task("checksums", len(names), "file") as tick:
        hashes = FileHashes().each([f"{folder}/{name}" for name in names], tick)
        for name, found, size in zip(names, hashes, sizes, strict=True):
            if found is None:
                raise InputError(f"{folder / name} cannot be read back; check the disk and run the same command again")
            out[name] = Output(sha256=found, size=size)
    return out
