"""Whether finished folders still hold what their steps wrote."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reappear.core import SILENT, InputError, Progress, counted
from reappear.store import FileHashes, read_table

from .outputs import full_outputs, output_names
from .record import OWN_FILES, fingerprint, read_record

_DEPTH = 3  # of finished folders below the one that is given, as of OUT/seed0/models/NAME


@dataclass(frozen=True)
class Verified:
    """What a check of one finished folder found.

    Attributes:
        folder: The folder.
        files: Files that are as recorded.
        bytes: Their size.
        damaged: File → what is wrong with it.
        extra: Files that no step wrote there.
        verifiable: Whether the record has checksums; those of older versions have none.
    """

    folder: Path
    files: int = 0
    bytes: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    verifiable: bool = True


def finished_folders(root: Path) -> list[Path]:
    """The finished folders at `root` and below it, as a workspace or several of a demo have them, by name."""

    def search(folder: Path, depth: int) -> Iterator[Path]:
        if (folder / "record.json").is_file():
            yield folder
        elif depth:
            try:
                with os.scandir(folder) as entries:
                    below = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            except OSError:
                return
            for name in below:
                if not name.startswith(".") and not name.endswith(".partial"):
                    yield from search(folder / name, depth - 1)

    return list(search(root, _DEPTH))


def verify_folder(folder: Path, *, progress: Progress = SILENT) -> Verified:
    """Reads every file of a finished folder and compares it with the folder's record."""
    try:
        record = read_record(folder)
        if not record.is_consistent:
            return Verified(folder, damaged={"record.json": "its fingerprint is not that of its settings and inputs"})
        if record.outputs is None:
            return Verified(folder, verifiable=False)
        outputs = full_outputs(folder, record.outputs)
    except InputError as error:
        return Verified(folder, damaged={"record.json": str(error)})
    names = list(outputs)
    damaged: dict[str, str] = {}
    with progress.task(f"checking {folder.name}", len(names), "file") as tick:
        found = FileHashes().each([f"{folder}/{name}" for name in names], tick)
        for (name, of), sha256 in zip(outputs.items(), found, strict=True):
            if sha256 == of.sha256:
                continue
            path = folder / name
            if not path.is_file():
                damaged[name] = "missing"
            elif sha256 is None:
                damaged[name] = "cannot be read"
            elif (size := path.stat().st_size) != of.size:
                damaged[name] = f"{counted(size, 'byte')}, recorded {of.size:,}"
            else:
                damaged[name] = "other content than recorded"
    damaged |= _damaged_parts(folder)
    extra = tuple(name for name in output_names(folder, ignore=OWN_FILES) if name not in outputs)
    whole = [of.size for name, of in outputs.items() if name not in damaged]
    return Verified(folder, len(whole), sum(whole), damaged, extra)


def _damaged_parts(folder: Path) -> dict[str, str]:
    """The parts that crops refer to, and that are not there or not those of that time; their files are not read."""
    table = folder / "videos.parquet"
    if not table.exists():
        return {}
    try:
        rows = read_table(table)
    except InputError:
        return {}  # as the table itself is named already
    out: dict[str, str] = {}
    for part, content in zip(rows.get("part", ()), rows.get("content", ()), strict=True):
        path = folder.parent / "parts" / str(part)
        try:
            if fingerprint(path) != content:
                out[f"../parts/{part}"] = "other content than recorded"
        except InputError:
            out[f"../parts/{part}"] = "missing"
    return out
