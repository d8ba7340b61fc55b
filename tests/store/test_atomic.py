import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from reappear.core import InputError, StorageError
from reappear.store import (
    ShardWriter,
    atomic_write,
    disk_errors,
    file_lock,
    remove_scratch,
    write_embedding_blocks,
    write_embeddings,
    write_table,
    write_text,
    write_texts,
)


def test_file_appears_when_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as staging:
        staging.write_text("half")
        assert not path.exists()
        staging.write_text("whole")
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_old_file_stays_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with atomic_write(path) as staging:
            staging.write_text("new")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the same command again"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EFBIG, "larger than its disk"),
        (errno.EMFILE, "too many files are open"),
    ],
)
def test_disk_errors_have_advice(tmp_path, number, message):
    with pytest.raises(StorageError, match=message), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))
    with pytest.raises(StorageError, match=message), disk_errors(tmp_path):
        raise OSError(f"[Errno {number}] Error writing: {os.strerror(number)}")  # as Arrow raises it


def test_temporary_file_is_not_named(tmp_path):
    (tmp_path / "file").touch()
    for write in (
        lambda: write_text(tmp_path / "file" / "a.txt", "text"),
        lambda: write_texts({tmp_path / "file" / "a.txt": "text"}),
    ):
        with pytest.raises(StorageError, match="move it away") as caught:
            write()
        assert ".tmp" not in str(caught.value)
    with pytest.raises(StorageError, match=r"a\.txt: permission denied"), atomic_write(tmp_path / "a.txt") as staging:
        raise PermissionError(errno.EACCES, "Permission denied", str(staging))


def test_disk_error_behind_another_is_recognised(tmp_path):
    """PyAV raises an error of its own where writing to an open file fails more than once."""
    error = RuntimeError("Error in PyAV callback")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StorageError, match="the disk is full"), disk_errors(tmp_path):
        raise error


def test_other_errors_pass(tmp_path):
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "none").read_text()


def test_scratch_files_of_a_step_are_removed(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("00001.json", "b/00002.json", "b/.00003.json.17.tmp"):
        (tmp_path / "a" / name).touch()
    for _ in range(2):
        remove_scratch(tmp_path / "a", "[0-9]*.json")
        assert list(tmp_path.iterdir()) == []


def test_other_files_in_a_scratch_folder_stay(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "00001.json").write_text("mine")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "precious.json").write_text("mine")
    (tmp_path / "a" / "00001.json").touch()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "far")
    remove_scratch(tmp_path / "a", "[0-9]*.json")
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["a", "b", "precious.json", "link", "far", "00001.json"]
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError("95904 requested and 14272 written"),  # numpy.save
        OSError("encoder error -2 when writing image file"),  # Pillow
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),  # torch.save
        SafetensorError("I/O error: No space left on device (os error 28)"),
        sqlite3.OperationalError("database or disk is full"),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),  # Arrow
    ],
    ids=["numpy", "pillow", "torch", "safetensors", "sqlite", "arrow"],
)
def test_full_disk_is_recognised_for_every_library(tmp_path, monkeypatch, error):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 20, 1 << 20, 0))
    with pytest.raises(StorageError, match="the disk is full"), disk_errors(tmp_path / "new" / "file"):
        raise error


def test_unknown_write_error_keeps_its_text(tmp_path):
    with pytest.raises(StorageError, match=r"14272 written"), disk_errors(tmp_path):
        raise OSError("95904 requested and 14272 written")


@pytest.mark.parametrize("error", [RuntimeError("no"), ValueError("no"), KeyError("x"), InputError("disk is full")])
def test_errors_of_other_kinds_pass(tmp_path, error):
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False).returncode
    ):
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def _write_shard(folder):
    with ShardWriter(folder / "shard-00000.tar") as shard:
        for i in range(100):
            shard.add(f"{i}.jpg", bytes(9_000))


def _write_npz(folder):
    with atomic_write(folder / "a.npz") as staging, staging.open("wb") as file:
        np.savez(file, a=np.random.default_rng(0).random(50_000))


def _write_safetensors(folder):
    with atomic_write(folder / "a.safetensors") as staging:
        safetensors.numpy.save_file({"a": np.zeros(50_000)}, staging)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_text(folder / "a.json", "x" * 200_000),
        lambda folder: write_embeddings(folder, np.ones((400, 512), np.float16), {}),
        lambda folder: write_embedding_blocks(folder, [np.ones((400, 512))], rows=400, width=512, meta={}),
        lambda folder: write_table(folder / "a.parquet", {"a": np.random.default_rng(0).random(50_000)}),
        _write_shard,
        _write_npz,
        _write_safetensors,
    ],
    ids=["text", "npy", "blocks", "parquet", "tar", "npz", "safetensors"],
)
def test_every_writer_on_a_full_disk(small_disk, write):
    with pytest.raises(StorageError, match="the disk is full"):
        write(small_disk)
    assert [path.name for path in small_disk.iterdir()] == []


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "-", "a b.c"])
def test_every_legal_name_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "one")
    write_texts({tmp_path / name: "two", tmp_path / "other": "three"})
    assert (tmp_path / name).read_text() == "two"
    assert {path.name for path in tmp_path.iterdir()} == {name, "other"}


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_lock_is_of_the_file_that_has_the_path_now(tmp_path, monkeypatch, change):
    """Another process takes the file away between opening and locking."""
    path = tmp_path / "lock"
    lock = fcntl.flock

    def late(*given):
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()
        if change == "replaced":
            path.write_text("new ")
        lock(*given)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BlockingIOError), file_lock(path):
        pass
    monkeypatch.setattr(fcntl, "flock", late)
    with file_lock(path, wait=True) as handle:
        os.write(handle, b"line")
        with pytest.raises(BlockingIOError), file_lock(path):
            pass
    assert path.read_text() == ("new line" if change == "replaced" else "line")


def test_lock_is_released_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(FileNotFoundError), file_lock(tmp_path / "lock", wait=True):
            raise FileNotFoundError


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
@pytest.mark.parametrize("wait", [False, True])
def test_disk_without_locks_is_one_line(tmp_path, monkeypatch, number, wait):
    def flock(handle, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError) as caught, file_lock(tmp_path / "lock", wait=wait):
        pass
    message = str(caught.value)
    assert str(tmp_path / "lock") in message
    assert "no file locks" in message
    assert "another disk" in message


def test_folder_that_cannot_be_flushed_is_written(tmp_path, monkeypatch):
    """Network disks of Windows refuse to flush a folder."""
    flush = os.fsync

    def fsync(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"
