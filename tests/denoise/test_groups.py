from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=40), st.integers(1, 12), st.sampled_from([1, 3]))
def test_centroids_and_sums_do_not_depend_on_blocks_or_threads(owner, rows, threads):
    x = np.random.default_rng(len(owner)).normal(size=(len(owner), 3)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    owner = np.array(owner)
    sums = np.array([x[owner == group].sum(axis=0, dtype=float) for group in range(9)])
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(threads, "blas"):
        patch.setattr(groups, "_BLOCK_BYTES", 4 * 3 * rows)
        centers = groups.centroids(x, groups.Groups.of(owner, 9))
        added = np.ones((9, 3))
        groups.add_rows(added, owner, x)
        distance = groups.distance_to_own(x, groups.Groups.of(owner, 9), centers)
    assert np.allclose(centers, np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0), atol=1e-6)
    assert np.allclose(added, 1 + sums, atol=1e-6)
    order = np.argsort(owner, kind="stable")
    assert np.allclose(distance, 1 - (x[order] * centers[owner[order]]).sum(axis=1), atol=1e-6)
