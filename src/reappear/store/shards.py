"""Crops in tar files, read in any order.

A shard is an ordinary tar (the WebDataset layout: one member per crop), readable by any tool. A member is read by
`os.pread` at its recorded offset, which is safe after a fork.
"""

import contextlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from reappear.core import InputError, StorageError, parser_errors, require_regular_file

from .atomic import disk_errors, sync_folder

PART_TAR = "crops.tar"
_BLOCK = tarfile.BLOCKSIZE
_MAX_BYTES = 256 << 20  # of one crop
_MOST_OPEN = 128  # shards held open at once; there is one for each video, and systems allow about a thousand files


class ShardWriter:
    """Writes one shard, member by member; the file appears under its name when closed without an error.

    An existing shard is appended to: its members stay where they are, so recorded offsets keep their meaning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._staging_path = path.with_name(f".{path.name}.tmp")
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._staging_path.open("wb")
            if path.exists():
                with path.open("rb") as old:
                    end = _end_of_members(path)
                    while old.tell() < end:
                        self._file.write(old.read(min(1 << 20, end - old.tell())))
        self._size = self._file.tell()

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Adds a member.

        Returns:
            Offset and size of its bytes in the shard.
        """
        header = tarfile.TarInfo(name)
        header.size = len(data)
        head = header.tobuf(tarfile.USTAR_FORMAT)
        offset = self._size + len(head)
        padding = b"\0" * (-len(data) % _BLOCK)
        with disk_errors(self.path):
            self._file.write(head + data + padding)
        self._size = offset + len(data) + len(padding)
        return offset, len(data)

    def close(self) -> None:
        """Finishes the tar, flushes it to disk, and renames it."""
        with disk_errors(self.path):
            self._file.write(b"\0" * 2 * _BLOCK)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._staging_path.replace(self.path)
            sync_folder(self.path.parent)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(OSError):  # the disk is full: do not mask the original error
            self._file.close()
        self._staging_path.unlink(missing_ok=True)


def _end_of_members(path: Path) -> int:
    with parser_errors(path, "a tar of crops"), tarfile.open(path, "r:") as tar:
        end = 0
        for member in tar:
            end = member.offset_data + member.size + (-member.size % _BLOCK)
        return end


class ShardReader:
    """Reads members of shards by number, offset and size. Safe after fork; pickles without open files.

    Args:
        folder: The crops of a workspace.
        parts: The part that each shard is of; none: the shards lie in the folder itself.
    """

    def __init__(self, folder: Path, parts: Sequence[str] = ()) -> None:
        self.folder, self.parts = folder, tuple(parts)
        self._handles: dict[tuple[int, int], int] = {}

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """The bytes of one member.

        Raises:
            InputError: The shard is missing or shorter than its index says.
        """
        path = part_tar(self.folder, self.parts[shard]) if self.parts else shard_path(self.folder, shard)
        try:
            data = os.pread(self._handle(shard, path), min(size, _MAX_BYTES), offset)
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing; run ingest again into a new workspace") from error
        except (OSError, OverflowError) as error:  # OverflowError: an offset that no file has
            raise StorageError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
        if len(data) != size:
            raise InputError(f"{path} is shorter than its index says; it was damaged after ingest, run ingest again")
        return data

    def _handle(self, shard: int, path: Path) -> int:
        key = (os.getpid(), shard)
        handle = self._handles.pop(key, None)
        if handle is None:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe without a writer would block
        self._handles[key] = handle  # last in order: the first is the one not used for longest
        if len(self._handles) > _MOST_OPEN:
            oldest = next(iter(self._handles))
            stale = self._handles.pop(oldest)
            if oldest[0] == key[0]:
                os.close(stale)
        return handle

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "parts": self.parts, "_handles": {}}

    def __del__(self) -> None:
        for (pid, _), handle in getattr(self, "_handles", {}).items():
            if pid == os.getpid():
                os.close(handle)


def shard_path(folder: Path, shard: int) -> Path:
    """The path of shard `shard`."""
    return folder / f"shard-{shard:05d}.tar"


def part_tar(crops: Path, part: str) -> Path:
    """The crops of one video."""
    return crops.parent / "parts" / part / PART_TAR


def members(path: Path) -> list[tuple[str, int, int]]:
    """Name, offset and size of each member, read from the tar itself: the index can always be rebuilt."""
    require_regular_file(path)
    with parser_errors(path, "a tar of crops"), tarfile.open(path, "r:") as tar:
        return [(member.name, member.offset_data, member.size) for member in tar]
