import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reappear.core import InputError
from reappear.data import image_bytes, image_size, read_image


def picture(kind="JPEG", size=(20, 40), mode="RGB"):
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


def test_files_members_and_rows(tmp_path):
    images = [picture(size=(8 + i, 8)) for i in range(5)]
    (tmp_path / "a.jpg").write_bytes(images[0])
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("x.jpg")
        member.size = len(images[1])
        tar.addfile(member, io.BytesIO(images[1]))
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet", row_group_size=2)
    member_path = f"{tmp_path}/a.tar@512+{len(images[1])}"
    assert read_image(f"{tmp_path}/a.jpg") == images[0]
    assert read_image(member_path) == images[1]
    assert [read_image(f"{tmp_path}/a.parquet@{i}") for i in (4, 0, 3, 1, 2)] == [images[i] for i in (4, 0, 3, 1, 2)]
    assert image_bytes(f"{tmp_path}/a.jpg") == len(images[0])
    assert image_bytes(member_path) == len(images[1])
    assert image_bytes(f"{tmp_path}/gone.jpg") == -1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone.jpg", r"gone\.jpg cannot be read: No such file"),
        ("gone.tar@0+5", r"gone\.tar@0\+5 cannot be read: No such file"),
        ("gone.parquet@0", r"gone\.parquet cannot be read"),
        ("a.parquet@7", r"a\.parquet has no row 7; it has 1"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, path, said):
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=said):
        read_image(f"{tmp_path}/{path}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_an_image_has_a_size_if_it_is_whole(kind):
    whole = picture(kind)
    assert image_size(whole) == (20, 40)
    with pytest.raises(InputError, match="damaged or cut off"):
        image_size(whole[: len(whole) // 2])


def test_what_is_no_image(monkeypatch):
    with pytest.raises(InputError, match="not an image"):
        image_size(b"hello")
    with pytest.raises(InputError, match="an empty file"):
        image_size(b"")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="more pixels than an image of a person has"):
        image_size(picture("PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(InputError, match="more pixels"):
        image_size(picture("PNG"))
