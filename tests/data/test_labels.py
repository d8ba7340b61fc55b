import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reappear.core import InputError
from reappear.data import read_labels


def test_integers_are_kept_and_text_is_encoded_in_order(tmp_path):
    (tmp_path / "a.csv").write_text(
        "label,camera,time,path,other\n7,door,0.5,x.jpg,1\n-1,,,y.jpg,2\n7,attic,2,zz.jpg,3\n"
    )
    result = read_labels(tmp_path / "a.csv", labels=("identity", "camera"), times=("time",))
    assert result.keys() == {"identity", "camera", "time", "path"}
    assert result["identity"].number.tolist() == [7, -1, 7]
    assert result["identity"].names == []
    assert result["identity"].name(7) == "7"
    assert result["camera"].number.tolist() == [1, -1, 0]
    assert result["camera"].names == ["attic", "door"]
    assert np.array_equal(result["time"], [0.5, np.nan, 2], equal_nan=True)
    assert result["path"].tolist() == ["x.jpg", "y.jpg", "zz.jpg"]


def test_table_is_read_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("reappear.data.labels._PIECE", 1000)
    names = [f"p{i % 700}" for i in range(2000)]
    (tmp_path / "a.csv").write_text("identity\n" + "\n".join(names) + "\n")
    result = read_labels(tmp_path / "a.csv", labels=("identity",))["identity"]
    assert [result.names[i] for i in result.number] == names


def test_parquet_equals_csv(tmp_path):
    pq.write_table(pa.table({"identity": [3, None, 5], "time": [1, None, 3]}), tmp_path / "a.parquet")
    result = read_labels(tmp_path / "a.parquet", labels=("identity",), times=("time",))
    assert result["identity"].number.tolist() == [3, -1, 5]
    assert np.array_equal(result["time"], [1, np.nan, 3], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "a.csv cannot be read as a table: Empty CSV file"),
        (b"identity,time\n1,soon\n", "cannot be read as a table: .*soon"),
        (b"identity,camera\n1,2\n3\n", "cannot be read as a table: .*Expected 2 columns, got 1"),
        (b"identity,label\n1,2\n", "has two columns for identity: identity, label; remove one"),
        (b"identity\n5\n-2\n", "a.csv: identity must be .* got -2"),
        (b"identity,camera\n5,-7\n", "a.csv: camera must be .* got -7"),
        (b"identity\n\xff\xfe\n", "cannot be read as a table"),
    ],
)
def test_invalid_table_is_one_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(InputError, match=message) as error:
        read_labels(tmp_path / "a.csv", labels=("identity", "camera"), times=("time",))
    assert "\n" not in str(error.value)


def test_missing_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        read_labels(tmp_path / "nowhere.csv", labels=("identity",))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_named(tmp_path, separator):
    path = tmp_path / "table.csv"
    path.write_text(separator.join(["identity", "camera"]) + "\n")
    with pytest.raises(InputError, match=f"{re.escape(repr(separator))}.*commas"):
        read_labels(path, labels=("identity",))
