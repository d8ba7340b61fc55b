import errno
import gc
import os

import numpy as np
import pytest

from reappear.core import LOCAL, Engine, SettingsError, StorageError
from reappear.pipeline.engines import Bounded, Kept, format_memory, parse_memory

MB = 10**6


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("4GB", 4_000_000_000),
        ("4 gb", 4_000_000_000),
        ("0.5g", 500_000_000),
        (4.0, 4_000_000_000),
        (1.5, 1_500_000_000),
        ("4", 4_000_000_000),
        ("512MiB", 512 * 2**20),
        ("1000000B", 1_000_000),
    ],
)
def test_amounts_of_memory(message, size):
    assert parse_memory(message) == size


@pytest.mark.parametrize("message", ["", "much", "-1", "0", "4 XB", "4GB 2", 4e9, "1e3GB", "nan"])
def test_invalid_memory_amounts_are_refused(message):
    with pytest.raises(SettingsError, match="memory: must be an amount such as 4GB"):
        parse_memory(message)


@pytest.mark.parametrize("size", [1, 999_999_999, 1_000_000_001, 2**40])
def test_reported_memory_is_enough(size):
    assert parse_memory(format_memory(size)) >= size


def test_matrices_beyond_the_limit_are_temporary_files(tmp_path):
    engine = Bounded(LOCAL, tmp_path, 5 * MB, 0)
    assert isinstance(engine, Engine)
    assert Kept(engine, tmp_path, "any").memory_bytes == engine.memory_bytes == 0
    inside, outside = engine.zeros(1000, 1000), engine.zeros(1000, 1000)
    assert [in_memory(m) for m in (inside, outside)] == [True, False]
    for matrix in (inside, outside):
        assert type(matrix) is np.ndarray
        assert matrix.dtype == np.float32
        assert not matrix.any()
        matrix[3] = 7
        assert matrix.sum() == 7000
    assert list(tmp_path.iterdir()) == []
    del inside
    gc.collect()
    assert in_memory(engine.zeros(1000, 1000)), "what was given back can be had again"


def in_memory(matrix: np.ndarray) -> bool:
    while isinstance(matrix.base, np.ndarray):
        matrix = matrix.base
    return matrix.base is None


def test_empty_matrices_are_allowed(tmp_path):
    assert Bounded(LOCAL, tmp_path, 0, 0).zeros(0, 4).shape == (0, 4)


def test_full_disk_is_reported_immediately(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}: the disk is full"):
        Bounded(LOCAL, tmp_path, 0, 0).zeros(10, 10)
