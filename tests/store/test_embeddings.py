import numpy as np
import pytest

from reappear.core import InputError
from reappear.store import read_embeddings, write_embeddings


def test_vectors_are_float16_memory_maps(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    write_embeddings(tmp_path / "e", vectors, {"extractor": "color"})
    back, meta = read_embeddings(tmp_path / "e")
    assert isinstance(back, np.memmap)
    assert back.dtype == np.float16
    assert np.allclose(back, vectors, rtol=1e-3, atol=1e-3)
    assert meta == {"extractor": "color", "rows": 7, "width": 5}


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="is missing; run `reappear embed` first"):
        read_embeddings(tmp_path)
    write_embeddings(tmp_path, np.ones((2, 2), np.float32), {})
    (tmp_path / "vectors.npy").write_bytes(b"no vectors")
    with pytest.raises(InputError, match=r"vectors\.npy"):
        read_embeddings(tmp_path)
