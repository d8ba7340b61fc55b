"""SHA-256 of files, cached in a database so that unchanged files are not read again."""

import contextlib
import hashlib
import os
import sqlite3
import stat
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reappear.core import InputError, require_regular_file

_BLOCK = 4096  # files in a transaction
_SMALL = 1 << 20  # bytes of a file that is read at once
_RECENT = 2_000_000_000  # ns: younger changes may share a timestamp with the next one, so their hash is not kept
_THREADS = min(8, 2 * (os.cpu_count() or 1))


class FileHashes:
    """Hashes of files by their content.

    A file is read again unless its size, mtime, ctime, inode and device are those of the time it was hashed; ctime is
    set by the kernel, so that no program can restore it. Entries carry a checksum. A database that is missing, locked,
    damaged or on a read-only disk costs time and nothing else.

    Args:
        database: An SQLite file, made where it is missing; None = nothing is kept.
    """

    def __init__(self, database: Path | None = None) -> None:
        self._path = database

    def sha256(self, path: Path) -> str:
        """The hash of one file, in hexadecimal.

        Raises:
            InputError: The file is missing, not a regular file, or cannot be read.
        """
        found = next(self.each([str(path)]))
        if found is None:
            require_regular_file(path)
            raise InputError(f"{path} cannot be read; check the file")
        return found

    def each(self, paths: Sequence[str], tick: Callable[[int], None] = lambda count: None) -> Iterator[str | None]:
        """The hash of each file; None for one that is missing, not a regular file, or cannot be read.

        Args:
            paths: In any order, also repeated.
            tick: Called with numbers of files that are done.
        """
        database = _Database(self._path)
        with contextlib.closing(database), ThreadPoolExecutor(_THREADS) as pool:
            for begin in range(0, len(paths), _BLOCK):
                block = [os.path.abspath(path) for path in paths[begin : begin + _BLOCK]]  # noqa: PTH100 (quicker)
                stamps = {path: _stamp(path) for path in dict.fromkeys(block)}
                found = database.read(stamps)
                unknown = [path for path, stamp in stamps.items() if stamp is not None and path not in found]
                fresh = dict(zip(unknown, pool.map(_hash, unknown), strict=True))
                database.write({path: entry for path, entry in fresh.items() if entry and entry[0]})
                found |= {path: entry[1] for path, entry in fresh.items() if entry}
                yield from (hashed.hex() if (hashed := found.get(path)) else None for path in block)
                tick(len(block))


class _Database:
    """Path → stamp and hash of the file. After an error it acts as empty."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._open: sqlite3.Connection | None = None
        if path is not None:
            with self._errors():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._open = sqlite3.connect(path, timeout=2.0, isolation_level=None)
                self._open.execute("PRAGMA synchronous=OFF")
                self._open.execute(
                    "CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, entry BLOB) WITHOUT ROWID"
                )

    def read(self, stamps: dict[str, bytes | None]) -> dict[str, bytes]:
        """The hashes of the files that are unchanged."""
        out: dict[str, bytes] = {}
        if self._open is not None:
            with self._errors():
                for path, stamp in stamps.items():
                    key = _key(path)
                    row = self._open.execute("SELECT entry FROM hashes WHERE path = ?", (key,)).fetchone()
                    if row is not None and stamp is not None and row[0] == _entry(key, stamp, row[0][-40:-8]):
                        out[path] = row[0][-40:-8]
        return out

    def write(self, found: dict[str, tuple[bytes, bytes]]) -> None:
        """Stores the stamp and hash of each file."""
        if self._open is not None and found:
            rows = [(key := _key(path), _entry(key, *both)) for path, both in found.items()]
            with self._errors():
                self._open.execute("BEGIN IMMEDIATE")
                self._open.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?)", rows)
                self._open.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, TypeError, IndexError) as error:  # the last two: rows of another kind
            self.close()
            damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
            if self._path is not None and damaged:
                with contextlib.suppress(OSError):
                    self._path.unlink()


def _key(path: str) -> bytes:
    return hashlib.blake2b(os.fsencode(path), digest_size=16).digest()


def _entry(key: bytes, stamp: bytes, hashed: bytes) -> bytes:
    """A stored entry: stamp, hash, and a checksum of both."""
    return stamp + hashed + hashlib.blake2b(key + stamp + hashed, digest_size=8).digest()


def _stamp(path: str) -> bytes | None:
    """What changes with the content of a file; None if it is not a regular file."""
    try:
        return _stamp_of(os.stat(path))  # noqa: PTH116 (quicker, and there may be millions)
    except (OSError, ValueError):
        return None


def _stamp_of(status: os.stat_result) -> bytes | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    return struct.pack("<5Q", *(n & 0xFFFF_FFFF_FFFF_FFFF for n in _numbers(status)))


def _numbers(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _hash(path: str) -> tuple[bytes, bytes] | None:
    """The stamp of a file, empty where it may not be kept, and its hash; None if the file cannot be read."""
    try:
        # Not to wait for the other end, should a pipe have taken the file's place.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:  # noqa: PTH123 (as above)
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                return None
            if before.st_size <= _SMALL:
                hashed = hashlib.sha256(file.readall()).digest()
            else:
                hashed = hashlib.file_digest(file, "sha256").digest()
            after = os.fstat(file.fileno())
    except (OSError, ValueError):
        return None
    settled = time.time_ns() - before.st_ctime_ns > _RECENT and _numbers(before) == _numbers(after)
    return (_stamp_of(before) or b"") if settled else b"", hashed
