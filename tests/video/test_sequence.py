import struct
import zlib

import cv2
import numpy as np
import pytest

from reappear.core import InputError
from reappear.video import is_image_sequence, open_footage, sequence_images

from .films import pictures


def write_sequence(folder, names, *, info="[Sequence]\nframeRate=10\n", images=None):
    images = images or pictures(len(names))
    for name, image in zip(names, images, strict=True):
        path = folder / "img1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix.lower(), image[..., ::-1])[1].tobytes())
    (folder / "seqinfo.ini").write_text(info)
    return folder


@pytest.mark.parametrize(
    "name", ["{}.jpg", "{:06d}.JPG", "frame_{}.jpeg", "cam2-{:03d}.PNG", "{}.bmp", "img1.x{:05d}.png"]
)
def test_images_are_sorted_by_number(tmp_path, name):
    folder = write_sequence(tmp_path, [name.format(i + 1) for i in range(12)])
    footage = open_footage(folder)
    frames = list(footage.frames())
    assert [frame.number for frame in frames] == list(range(12))
    assert np.allclose([frame.time for frame in frames], np.arange(12) / 10)
    for frame, image in zip(frames, pictures(12), strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 8
    assert [frame.number for frame in footage.frames(only=frozenset({2, 10}))] == [2, 10]


@pytest.mark.parametrize(("first", "number"), [(0, 0), (1, 0), (5, 4), (1000, 999)])
def test_numbers_may_start_anywhere_and_have_gaps(tmp_path, first, number):
    folder = write_sequence(tmp_path, [f"{first + i}.png" for i in (0, 1, 4)])
    frames = list(open_footage(folder).frames())
    assert [frame.number for frame in frames] == [number, number + 1, number + 4]
    assert np.allclose([frame.time for frame in frames], [0, 0.1, 0.4])


def test_two_images_of_one_number_are_refused(tmp_path):
    folder = write_sequence(tmp_path, ["1.png", "01.png", "2.png"])
    with pytest.raises(InputError, match=r"number 1: 01\.png and 1\.png"):
        open_footage(folder)


def test_stated_ending_and_folder_are_used(tmp_path):
    info = "[Sequence]\nimDir=pictures\nimExt=.png\nframeRate=10"
    folder = write_sequence(tmp_path, ["../pictures/1.png", "../pictures/1.jpg", "7.jpg"], info=info)
    assert [path.name for path in sequence_images(folder)] == ["1.png"]


def test_names_without_a_number_are_counted(tmp_path):
    footage = open_footage(write_sequence(tmp_path, ["1.png", "cover.png", "²³.png", "2.png"]))
    assert [frame.number for frame in footage.frames()] == [0, 1]
    assert "2 images, such as cover.png" in footage.damage


def test_byte_order_mark_and_names_in_other_case(tmp_path):
    folder = write_sequence(tmp_path, ["1.png"], info="\ufeff[Sequence]\nIMDIR=img1\nframerate=12.5\nname=100%\n")
    assert is_image_sequence(folder)
    assert open_footage(folder).rate == 12.5


@pytest.mark.parametrize("rate", ["nan", "inf", "-5", "1e9", "fast"])
def test_invalid_frame_rate_is_refused(tmp_path, rate):
    folder = write_sequence(tmp_path, ["1.png"], info=f"[Sequence]\nframeRate={rate}\n")
    with pytest.raises(InputError, match=f"frameRate.*{rate}") as error:
        open_footage(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["../elsewhere", "/tmp", "missing", "1\0"])
def test_image_folders_elsewhere(tmp_path, place):
    (tmp_path / "elsewhere").mkdir()
    folder = write_sequence(tmp_path / "s", ["1.png"], info=f"[Sequence]\nimDir={place}\n")
    with pytest.raises(InputError):
        open_footage(folder)


def test_sizes_differ(tmp_path):
    images = pictures(3)
    images[1] = cv2.resize(images[1], (96, 72))
    footage = open_footage(write_sequence(tmp_path, ["1.png", "2.png", "3.png"], images=images))
    assert [frame.image.shape[:2] for frame in footage.frames()] == [(144, 192), (72, 96), (144, 192)]
    assert any("2 sizes" in note for note in footage.notes)


def test_image_with_enormous_size_is_skipped_undecoded(tmp_path):
    folder = write_sequence(tmp_path, ["1.png", "2.png"])
    png = (folder / "img1" / "1.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 40_000, 40_000) + png[24:29]
    (folder / "img1" / "3.png").write_bytes(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:])
    footage = open_footage(folder)
    assert [frame.number for frame in footage.frames()] == [0, 1]
    assert "3.png" in footage.damage
