import struct

import cv2
import numpy as np
import pytest

from reappear.core import InputError
from reappear.video import open_footage

from .films import SIZE, pictures, write_film


@pytest.fixture(scope="module")
def images():
    return pictures(30)


def test_frames_come_in_order_with_their_times_and_pixels(tmp_path, images):
    footage = open_footage(write_film(tmp_path / "a.mp4", images))
    assert (footage.size, footage.rate, footage.frames_stated) == (SIZE, 10.0, 30)
    frames = list(footage.frames())
    assert [frame.number for frame in frames] == list(range(30))
    assert np.allclose([frame.time for frame in frames], np.arange(30) / 10)
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 6  # chroma is stored at half the resolution
    assert (footage.frames_read, footage.damage) == (30, "")


def test_times_are_the_time_stamps_of_an_uneven_film_counted_from_its_first_frame(tmp_path, images):
    stamps = [5, 6, 9, 20, 21]
    footage = open_footage(write_film(tmp_path / "a.mkv", images[:5], times=stamps))
    assert np.allclose([frame.time for frame in footage.frames()], [0, 0.1, 0.4, 1.5, 1.6], atol=1e-3)


def test_stride_and_only_choose_frames(tmp_path, images):
    footage = open_footage(write_film(tmp_path / "a.mp4", images))
    assert [frame.number for frame in footage.frames(stride=7)] == [0, 7, 14, 21, 28]
    assert footage.frames_read == 30
    assert [frame.number for frame in footage.frames(only=frozenset({3, 11}))] == [3, 11]
    assert footage.frames_read == 12  # nothing is decoded after the last that is wanted
    assert list(footage.frames(only=frozenset())) == []


def test_a_raw_stream_without_time_stamps_is_timed_by_its_rate(tmp_path, images):
    footage = open_footage(write_film(tmp_path / "a.264", images))
    assert footage.frames_stated == 0
    assert np.allclose([frame.time for frame in footage.frames()], np.arange(30) / footage.clock)
    assert footage.frames_read == 30


def test_a_film_of_one_frame(tmp_path, images):
    footage = open_footage(write_film(tmp_path / "a.mp4", images[:1]))
    assert [frame.number for frame in footage.frames()] == [0]


def test_a_phone_held_upright_is_shown_upright(tmp_path, images):
    path = write_film(tmp_path / "a.mp4", images)
    one, two = 1 << 16, 1 << 30
    straight, turned = (one, 0, 0, 0, one, 0, 0, 0, two), (0, one, 0, -one, 0, 0, 0, 0, two)
    data = path.read_bytes()
    track = data.index(b"tkhd")
    matrix = data.index(struct.pack(">9i", *straight), track)
    path.write_bytes(data[:matrix] + struct.pack(">9i", *turned) + data[matrix + 36 :])
    footage = open_footage(path)
    assert footage.size == SIZE[::-1]
    # This matrix turns a quarter clockwise (ISO 14496-12, 6.2.2).
    first = next(footage.frames()).image
    assert np.abs(first.astype(int) - np.rot90(images[0], -1)).mean() < 6


def test_a_truncated_film_gives_what_is_there_and_says_so(tmp_path, images):
    whole = write_film(tmp_path / "a.mp4", images, faststart=True).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: int(0.6 * len(whole))])
    footage = open_footage(path)
    numbers = [frame.number for frame in footage.frames()]
    assert 5 < len(numbers) < 30
    assert numbers == list(range(len(numbers)))
    assert "frames" in footage.damage or "ends" in footage.damage


def test_a_film_with_a_damaged_middle_goes_on_after_it(tmp_path, images):
    noisy = [np.random.default_rng(i).integers(0, 255, image.shape, np.uint8) for i, image in enumerate(images)]
    path = write_film(tmp_path / "a.mp4", noisy)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(bytes(data))
    footage = open_footage(path)
    numbers = [frame.number for frame in footage.frames()]
    assert 29 in numbers
    assert len(numbers) < 30
    assert "cannot be decoded" in footage.damage


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("text.mp4", b"hello, I am a text\n" * 50, "is not a video"),
        ("empty.mp4", b"", "is an empty file"),
        ("junk.avi", bytes(range(256)) * 40, "is not a video"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, name, data, said):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=said) as error:
        open_footage(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_sound_without_pictures_is_refused(tmp_path):
    import wave

    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    with pytest.raises(InputError, match="no video stream, only audio"):
        open_footage(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_footage(tmp_path / "none.mp4")


@pytest.fixture
def sequence(tmp_path, images):
    folder = tmp_path / "seq"
    (folder / "img1").mkdir(parents=True)
    (folder / "seqinfo.ini").write_text("[Sequence]\nname=seq\nimDir=img1\nframeRate=5\nseqLength=600\n")
    for i, image in enumerate(images[:6]):
        cv2.imwrite(str(folder / "img1" / f"{i + 1:06d}.png"), image[..., ::-1])
    return folder


def test_a_motchallenge_folder_is_a_video(sequence, images):
    footage = open_footage(sequence)
    assert (footage.size, footage.rate, footage.frames_stated) == (SIZE, 5.0, 6)
    frames = list(footage.frames())
    assert np.allclose([frame.time for frame in frames], np.arange(6) / 5)
    assert all(np.array_equal(frame.image, image) for frame, image in zip(frames, images, strict=False))


def test_a_damaged_image_of_a_sequence_is_left_out(sequence):
    (sequence / "img1" / "000003.png").write_bytes(b"no picture")
    footage = open_footage(sequence)
    assert [frame.number for frame in footage.frames()] == [0, 1, 3, 4, 5]
    assert "000003.png" in footage.damage


def test_a_sequence_without_images_or_with_a_strange_description_is_refused(tmp_path):
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nimDir=img1\n")
    with pytest.raises(InputError, match="no images in img1"):
        open_footage(tmp_path)
    (tmp_path / "seqinfo.ini").write_text("nonsense")
    with pytest.raises(InputError, match="is not a MOTChallenge sequence file"):
        open_footage(tmp_path)


@pytest.mark.real
def test_real_footage(real_data):
    footage = open_footage(real_data / "video" / "people_walking_768x432.264")
    times = [frame.time for frame in footage.frames()]
    assert (len(times), footage.rate, footage.size) == (596, 24.0, (768, 432))
    assert times[-1] == pytest.approx(595 / 24)
