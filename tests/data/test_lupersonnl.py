import pytest

from reappear.core import InputError
from reappear.data import read

from .trees import fill, lupersonnl, rows


def test_identities_are_scoped_to_their_video(tmp_path):
    lupersonnl(tmp_path)
    assert rows(read("lupersonnl", tmp_path), tmp_path, "identity", "camera", "sequence") == [
        ("de/berlin/aaaa/000001_0000007_00.jpg", 0, 0, 0),
        ("de/berlin/aaaa/000001_0000009_01.jpg", 0, 0, 0),
        ("de/berlin/aaaa/000002_0000007_01.jpg", 1, 0, 1),
        ("fr/paris/bbbb/000001_0000000_00.jpg", 2, 1, 2),
    ]


def test_database_names_contain_the_video(tmp_path):
    fill(tmp_path, ["00001_000003_12_0.jpg", "00001_000003_13_0.jpg", "00002_000003_1_0.jpg", "cat.jpg", "x.txt"])
    table = read("lupersonnl", tmp_path)
    assert [row[1:] for row in rows(table, tmp_path, "identity", "camera")] == [(0, 0), (0, 0), (1, 1)]
    assert len(table.skipped) == 2


def test_packed_database_is_refused(tmp_path):
    fill(tmp_path, ["lmdb/data.mdb", "keys.pkl"])
    with pytest.raises(InputError, match=r"\(2 files skipped\); unpack the LMDB into files first"):
        read("lupersonnl", tmp_path)
