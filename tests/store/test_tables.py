import numpy as np
import pytest

from reappear.core import InputError
from reappear.store import read_table, write_table


def test_columns_round_trip(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {"n": np.arange(3), "x": np.array([0.5, -1, 2], np.float32), "ok": np.array([True, False, True])}
    write_table(path, {**columns, "name": ["a", "b", "ü"]})
    back = read_table(path)
    for name, values in columns.items():
        assert back[name].dtype == values.dtype
        assert np.array_equal(back[name], values)
    assert back["name"].tolist() == ["a", "b", "ü"]
    assert [*read_table(path, "x", "n")] == ["x", "n"]


def test_empty_columns_keep_their_type(tmp_path):
    write_table(tmp_path / "a.parquet", {"n": np.zeros(0, np.int64)})
    assert read_table(tmp_path / "a.parquet")["n"].dtype == np.int64


def test_unreadable_files_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(InputError, match=r"a\.parquet is missing"):
        read_table(path)
    path.write_text("no table")
    with pytest.raises(InputError, match=r"a\.parquet cannot be read"):
        read_table(path)
    write_table(path, {"n": np.arange(3)})
    with pytest.raises(InputError, match="has no column m"):
        read_table(path, "m")
