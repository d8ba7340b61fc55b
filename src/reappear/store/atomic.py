"""Files and folders that are either whole or not there."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reappear.core import StorageError

_REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another folder",
    errno.EPERM: "permission denied; choose another folder",
    errno.EIO: "the disk reports an error; check it",
}


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turns a refusal of the disk into one line that says what to do. What was finished before stays."""
    try:
        yield
    except OSError as error:
        # Some libraries raise OSError with the reason in the text alone.
        number = error.errno or next((n for n in _REFUSALS if os.strerror(n) in str(error)), None)
        if number not in _REFUSALS:
            raise
        raise StorageError(
            f"cannot write {error.filename or where}: {_REFUSALS[number]} and run the same command again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` outlast a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; when the block ends well it is fsynced and renamed to `path`."""
    aside = _aside(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            _sync(aside)
            aside.replace(path)
            sync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with writing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_texts(texts: Mapping[Path, str]) -> None:
    """Writes text files that belong together: until all are on the disk, none takes the place of an earlier one."""
    asides = {path: _aside(path) for path in texts}
    try:
        for path, aside in asides.items():
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                aside.write_text(texts[path], encoding="utf-8")
                _sync(aside)
        for path, aside in asides.items():
            with disk_errors(path):
                aside.replace(path)
                sync_folder(path.parent)
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_folder(folder: Path) -> None:
    """Removes a folder that may or may not be there."""
    if folder.exists():
        with disk_errors(folder):
            shutil.rmtree(folder)
