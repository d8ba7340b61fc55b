import hashlib
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from reappear.core import InputError
from reappear.store import FileHashes, hashes


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files of this moment count as settled, so that their hashes are kept."""
    monkeypatch.setattr(hashes, "_RECENT", -(10**12))


@pytest.fixture
def reads(monkeypatch):
    """The files that are read."""
    read, real = [], hashes._hash

    def counted(path):
        read.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(hashes, "_hash", counted)
    return read


def sha(data):
    return hashlib.sha256(data).hexdigest()


def test_unchanged_files_are_not_read_again(tmp_path, reads):
    paths = [tmp_path / f"{i}" for i in range(5)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * (i << 19))
    names = [str(path) for path in (*paths, paths[0])]
    wanted = [sha(path.read_bytes()) for path in (*paths, paths[0])]
    for _ in range(2):
        assert list(FileHashes(tmp_path / "h.sqlite").each(names)) == wanted
        assert len(reads) == 5


def test_change_with_same_size_and_times_is_detected(tmp_path, reads):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    status = path.stat()
    store = FileHashes(tmp_path / "h.sqlite")
    assert store.sha256(path) == sha(b"old")
    time.sleep(0.02)  # past the granularity of the clock of the file system
    path.write_bytes(b"new")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert store.sha256(path) == sha(b"new")


def test_replaced_file_is_detected(tmp_path):
    path, new = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"old")
    new.write_bytes(b"new")
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    store = FileHashes(tmp_path / "h.sqlite")
    assert store.sha256(path) == sha(b"old")
    new.replace(path)
    assert store.sha256(path) == sha(b"new")


def test_hashes_of_recent_files_are_not_cached(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(hashes, "_RECENT", 2_000_000_000)
    path = tmp_path / "a"
    path.write_bytes(b"x")
    for _ in range(2):
        FileHashes(tmp_path / "h.sqlite").sha256(path)
    assert len(reads) == 2


@pytest.mark.parametrize("kind", ["text", "empty", "folder", "other table", "read-only folder"])
def test_damaged_database_only_costs_time(tmp_path, kind):
    path, database = tmp_path / "a", tmp_path / "sub" / "h.sqlite"
    path.write_bytes(b"x")
    database.parent.mkdir()
    if kind == "text":
        database.write_text("no database " * 1000)
    elif kind == "empty":
        database.write_bytes(b"")
    elif kind == "folder":
        database.mkdir()
    elif kind == "other table":
        with sqlite3.connect(database) as made:
            made.execute("CREATE TABLE hashes (path TEXT, entry TEXT)")
    else:
        database.parent.chmod(0o500)
    for _ in range(2):
        assert FileHashes(database).sha256(path) == sha(b"x")
    database.parent.chmod(0o700)


def test_corrupt_database_never_gives_a_wrong_hash(tmp_path):
    paths = [tmp_path / f"{i}" for i in range(8)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    wanted = [sha(path.read_bytes()) for path in paths]
    database = tmp_path / "h.sqlite"
    names = [str(path) for path in paths]
    list(FileHashes(database).each(names))
    whole = database.read_bytes()
    used = [i for i, byte in enumerate(whole) if byte]
    for place in used[:: max(1, len(used) // 150)]:
        database.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert list(FileHashes(database).each(names)) == wanted, place
    for length in range(0, len(whole), 1500):
        database.write_bytes(whole[:length])
        assert list(FileHashes(database).each(names)) == wanted, length


def test_concurrent_hashing(tmp_path):
    paths = [tmp_path / f"{i}" for i in range(50)]
    for path in paths:
        path.write_bytes(path.name.encode())
    wanted, found = [sha(path.read_bytes()) for path in paths], []
    names = [str(path) for path in paths]

    def look():
        found.append([list(FileHashes(tmp_path / "h.sqlite").each(names)) for _ in range(5)])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[wanted] * 5] * 4


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    names = [str(tmp_path / name) for name in ("pipe", "folder", "loop", "gone")]
    store = FileHashes(tmp_path / "h.sqlite")
    assert list(store.each([*names, "/dev/zero", "a\0b"])) == [None] * 6
    for name in names:
        with pytest.raises(InputError, match=name):
            store.sha256(tmp_path / name)
