from pathlib import Path

import numpy as np

from reappear.core import LOCAL
from reappear.denoise import groups


def test_mapped_matrix_releases_its_pages(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float16)
    np.save(tmp_path / "v.npy", rows)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    assert np.array_equal(mapped[::-1], rows[::-1])
    assert resident(tmp_path / "v.npy") > rows.nbytes / 2
    groups.release_pages(mapped[5:])
    assert resident(tmp_path / "v.npy") == 0
    groups.read_unit(mapped, np.arange(len(rows)))
    assert resident(tmp_path / "v.npy") == 0
    own = np.load(tmp_path / "v.npy", mmap_mode="c")
    own[7] = 3
    groups.release_pages(own)
    assert (own[7] == 3).all(), "what was written into a private copy stays"
    np.save(tmp_path / "w.npy", rows)
    shared = np.load(tmp_path / "w.npy", mmap_mode="r+")
    shared[7] = 3
    groups.release_pages(np.asarray(shared)[5:])
    assert resident(tmp_path / "w.npy") == 0
    assert (shared[7] == 3).all(), "what was written into the file is there"


def resident(path):
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(int(next(line for line in lines if line.startswith("Rss:")).split()[1]) * 1024
               for line in lines if line.endswith(str(path)))  # fmt: skip


def test_reading_all_rows_gives_the_matrix(monkeypatch):
    monkeypatch.setattr(groups, "_BLOCK_BYTES", 40)
    matrix = np.arange(20, dtype=np.float32).reshape(5, 4)
    assert groups.rows_of(matrix, np.arange(5), LOCAL) is matrix
    assert np.array_equal(groups.rows_of(matrix, np.array([0, 1, 3, 4]), LOCAL), matrix[[0, 1, 3, 4]])
