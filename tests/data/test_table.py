import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reappear.core import InputError
from reappear.data import read

from .trees import fill, rows


def test_numbers_and_splits(tmp_path):
    fill(tmp_path, ["im/a.jpg", "im/b.jpg", "im/c.jpg"])
    (tmp_path / "t.csv").write_text(
        "path,identity,camera,split,sequence,frame\n"
        "im/a.jpg,7,1,query,3,12\nim/b.jpg,7,2,gallery,4,0\nim/c.jpg,-1,2,gallery,,\n"
    )
    table = read("table", tmp_path / "t.csv")
    assert rows(table, tmp_path, "identity", "camera", "sequence", "split") == [
        ("im/a.jpg", 7, 1, 3, "query"),
        ("im/b.jpg", 7, 2, 4, "gallery"),
        ("im/c.jpg", -1, 2, -1, "gallery"),
    ]
    assert table.frame.tolist() == [12, 0, -1]
    assert read("table", tmp_path).path.tolist() == table.path.tolist()


def test_text_identities_in_parquet(tmp_path):
    fill(tmp_path, ["a.jpg", "b.jpg"])
    pq.write_table(
        pa.table({"path": ["a.jpg", "b.jpg", "gone.jpg"], "label": ["zoe", "ann", "ann"]}), tmp_path / "t.parquet"
    )
    table = read("table", tmp_path)
    assert table.identity.tolist() == [1, 0]
    assert table.names == ("ann", "zoe")
    assert table.where("train").names == ("ann", "zoe")
    assert table.skipped == {str(tmp_path / "gone.jpg"): "in t.parquet, but not there"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,camera\na.jpg,1\n", "has no column identity; it has path, camera"),
        ("file,person\na.jpg,1\n", "has no column path and no column identity; it has file, person"),
        ("path,identity\na.jpg,1\na.jpg,2\n", r"a\.jpg stands in 2 lines; one image has one line"),
        ("path,identity,split\na.jpg,1,test\n", "a split must be one of train, query, gallery, got .*test"),
        ("path,identity,split\na.jpg,1,\n", "a split must be one of train, query, gallery, got none"),
        ("path,identity\nb.jpg,1\n", "none of 1 image is there"),
    ],
)
def test_mismatched_input_is_one_line(tmp_path, text, message):
    fill(tmp_path, ["a.jpg"])
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read("table", tmp_path / "t.csv")


def test_ambiguous_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must hold one \.csv or \.parquet, got none"):
        read("table", tmp_path)
    fill(tmp_path, ["a.csv", "b.csv"])
    with pytest.raises(InputError, match=r"got a\.csv, b\.csv"):
        read("table", tmp_path)
