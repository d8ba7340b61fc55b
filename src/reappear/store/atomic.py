"""Atomic writes and locks of files, and disk errors as `StorageError`."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reappear.core import ReappearError, StorageError

_REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another folder",
    errno.EPERM: "permission denied; choose another folder",
    errno.EIO: "the disk reports an error; check it",
    errno.ENOTDIR: "a file is where a folder must be; move it away",
    errno.EISDIR: "a folder is where a file must be; move it away",
    errno.EEXIST: "another kind of file is there; move it away",
    errno.ELOOP: "its symbolic links lead in a circle; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EFBIG: "the file is larger than its disk or `ulimit -f` allows; choose another folder",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine; end other programs",
    errno.ESTALE: "its network disk was lost; mount it again",
}
_IN_TEXT = {  # SQLite; safetensors, Arrow
    "disk is full": errno.ENOSPC,
    **{os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)},
}
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # by the file system
_NEARLY_NOTHING = 64 << 10  # bytes that are free on a disk that counts as full


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Converts disk errors into StorageError with advice."""
    try:
        yield
    except ReappearError:
        raise
    except Exception as error:
        reason = _reason(error, where)
        if reason is None:
            raise
        named = os.fsdecode(getattr(error, "filename", None) or where)
        path = where if named.endswith(".tmp") else named
        raise StorageError(f"cannot write {path}: {reason} and run the same command again") from error


def _reason(error: Exception, where: Path) -> str | None:
    """The reason for a disk error; None for other errors.

    Some libraries have the reason in the text alone, in classes of their own; NumPy has none ("95904 requested and
    14272 written").
    """
    text = " ".join(str(error).split())
    for words, number in _IN_TEXT.items():
        if words in text:
            return _REFUSALS[number]
    if isinstance(error, OSError):
        number = error.errno or next((n for n in _REFUSALS if os.strerror(n) in text), 0)
        if number:
            return _REFUSALS.get(number)
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):  # PyAV, of a file of Python's
        return _reason(error.__context__, where)
    if type(error) is OSError or (type(error) is RuntimeError and "writ" in text):
        if _is_full(where):
            return _REFUSALS[errno.ENOSPC]
        if type(error) is OSError or "PytorchStreamWriter" in text:
            return f"writing failed ({text[:160]}); check the disk"
    return None


def _is_full(where: Path) -> bool:
    """Whether the disk of `where` is full."""
    there = next((path for path in (where, *where.absolute().parents) if path.exists()), Path("/"))
    return shutil.disk_usage(there).free < _NEARLY_NOTHING


def sync_folder(folder: Path) -> None:
    """Flushes renames inside `folder` to disk (fsync), where its file system can: those of Windows shares cannot."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; when the block ends well it is fsynced and renamed to `path`."""
    staging = _staging_path(path)
    try:
        with disk_errors(path):  # checked before the temporary file is removed
            path.parent.mkdir(parents=True, exist_ok=True)
            yield staging
            _sync(staging)
            staging.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # do not mask the original error
            staging.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_write(path) as staging:
        staging.write_text(text, encoding="utf-8")


def write_texts(texts: Mapping[Path, str]) -> None:
    """Writes several text files together: none replaces an earlier one until all are on disk."""
    staging_paths = {path: _staging_path(path) for path in texts}
    try:
        for path, staging in staging_paths.items():
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                staging.write_text(texts[path], encoding="utf-8")
                _sync(staging)
        for path, staging in staging_paths.items():
            with disk_errors(path):
                staging.replace(path)
                sync_folder(path.parent)
    finally:
        for staging in staging_paths.values():
            with contextlib.suppress(OSError):  # as above
                staging.unlink(missing_ok=True)


@contextmanager
def file_lock(path: Path, *, wait: bool = False) -> Iterator[int]:
    """Locks a file, made if missing, against other processes; yields its descriptor, open for appending.

    Args:
        path: The file.
        wait: Whether to wait for the lock.

    Raises:
        BlockingIOError: Without `wait`: another process has locked, moved or replaced the file.
        StorageError: The file system has no locks, as some network disks.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _lock(handle, path, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                yield handle
                return
        finally:
            os.close(handle)
        if not wait:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path))


def _lock(handle: int, path: Path, how: int) -> None:
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        raise StorageError(
            f"cannot lock {path}: its disk has no file locks ({os.strerror(error.errno).lower()}), which keep two "
            "processes from writing one file; choose a folder on another disk"
        ) from error


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _staging_path(path: Path) -> Path:
    # A legal name may leave no room for more: its beginning is enough, since a hash tells it from the others.
    start = os.fsdecode(os.fsencode(path.name)[:64])
    return path.with_name(f".{start}.{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{os.getpid()}.tmp")


def remove_scratch(folder: Path, *patterns: str) -> None:
    """Removes temporary files of a step from a folder, and folders that become empty.

    Args:
        folder: May be missing.
        patterns: Names of the step's own files, at any depth; their temporary files go too. Other files stay.
    """
    with disk_errors(folder):
        for path in sorted([*folder.rglob("*"), folder], key=lambda path: len(path.parts), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):  # not empty
                    path.rmdir()
            elif any(path.match(pattern) for pattern in (*patterns, ".*.tmp")):
                path.unlink(missing_ok=True)
