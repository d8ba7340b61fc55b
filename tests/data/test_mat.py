import io

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from reappear.core import InputError
from reappear.data.mat import read_mat


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "kind", [np.float64, np.float32, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64]
)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (5, 4), (400, 7), (0, 4)])
@pytest.mark.parametrize("key", ["k", "a_name_of_some_length"])
def test_matrices_equal_those_of_scipy(tmp_path, kind, compressed, shape, key):
    value = np.random.default_rng(0).integers(0, 120, shape).astype(kind)
    others = {"text": "abc", "cell": np.array([1, "a"], object), "z": 1j * np.ones(3), "s": {"x": [1.0, 2.0]}}
    savemat(tmp_path / "a.mat", {**others, key: value, "last": [[1]]}, do_compression=compressed)
    expected = loadmat(tmp_path / "a.mat")[key]
    assert np.array_equal(read_mat(tmp_path / "a.mat", key), expected)
    for other in ("text", "cell", "z", "s", "none"):
        with pytest.raises(InputError, match=f"no matrix of numbers called {other}"):
            read_mat(tmp_path / "a.mat", other)


def test_type_number_that_crashes_scipy_is_refused(tmp_path):
    out = io.BytesIO()
    savemat(out, {"k": np.ones((3, 4))})
    data = bytearray(out.getvalue())
    place = data.index(b"\x09\0\0\0\x60\0\0\0")  # doubles, 96 bytes
    data[place] = 128
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.mat"):
        read_mat(tmp_path / "a.mat", "k")


def test_decompression_bomb_is_refused(tmp_path):
    savemat(tmp_path / "a.mat", {"k": np.zeros((1 << 22, 1))}, do_compression=True)
    assert (tmp_path / "a.mat").stat().st_size < 1 << 20
    with pytest.raises(InputError, match="more than"):
        read_mat(tmp_path / "a.mat", "k")
