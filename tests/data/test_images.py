import io
import struct
import tarfile
import zlib

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reappear.core import InputError
from reappear.data import container, decode_image, image_size, read_image


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
    assert container(f"{tmp_path}/a.jpg") == f"{tmp_path}/a.jpg"
    assert container(member_path) == f"{tmp_path}/a.tar"
    assert container(f"{tmp_path}/a.parquet@3") == f"{tmp_path}/a.parquet"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.jpg", r"gone\.jpg does not exist"),
        ("gone.tar@0+5", r"gone\.tar does not exist"),
        ("gone.parquet@0", r"gone\.parquet does not exist"),
        ("a.parquet@7", r"a\.parquet has no row 7; it has 1"),
    ],
)
def test_unreadable_image_is_named(tmp_path, path, message):
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        read_image(f"{tmp_path}/{path}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_image_size_of_complete_files(kind):
    whole = picture(kind)
    assert image_size(whole) == (20, 40)
    with pytest.raises(InputError, match="damaged or cut off"):
        image_size(whole[: len(whole) // 2])


def test_non_images_are_refused():
    with pytest.raises(InputError, match="not an image"):
        image_size(b"hello")
    with pytest.raises(InputError, match="an empty file"):
        image_size(b"")
    for kind in ("GIF", "TIFF", "EPS"):  # of EPS, Pillow would run Ghostscript
        for read in (image_size, decode_image):
            with pytest.raises(InputError, match="not an image"):
                read(picture(kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_size_is_checked_before_anything_is_decoded(kind, monkeypatch):
    data = picture(kind)
    monkeypatch.setattr("reappear.data.images.MAX_PIXELS", 20 * 40 - 1)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for read in (image_size, decode_image):
        with pytest.raises(InputError, match="more pixels"):
            read(data)


def test_image_of_40000_pixels_square_takes_no_memory():
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * (1 << 20))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    for read in (image_size, decode_image):
        with pytest.raises(InputError, match="more pixels"):
            read(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_of_opencv(kind, mode):
    data = picture(kind, mode=mode)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decode_image(data), expected)
