import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

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


def test_times_are_relative_time_stamps_at_variable_rate(tmp_path, images):
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


def test_raw_stream_without_time_stamps_uses_its_rate(tmp_path, images):
    footage = open_footage(write_film(tmp_path / "a.264", images))
    assert footage.frames_stated == 0
    assert np.allclose([frame.time for frame in footage.frames()], np.arange(30) / footage.clock)
    assert footage.frames_read == 30


def test_video_of_one_frame(tmp_path, images):
    footage = open_footage(write_film(tmp_path / "a.mp4", images[:1]))
    assert [frame.number for frame in footage.frames()] == [0]


_ONE = 1 << 16
# Coefficients a, b, c, d of display matrices, and what they make of a picture (ISO 14496-12, 6.2.2).
_SHOWN = {
    "turned a quarter clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "turned a quarter back": ((0, -1, 1, 0), lambda image: np.rot90(image)),
    "upside down": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda image: image[::-1]),
    "mirrored and turned": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    "mirrored and turned back": ((0, -1, -1, 0), lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
}


def write_matrix(path, matrix):
    """Replaces the display matrix of an MP4 file."""
    data = path.read_bytes()
    place = data.index(struct.pack(">9i", _ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    a, b, c, d = (_ONE * value for value in matrix)
    path.write_bytes(data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + 36 :])


@pytest.mark.parametrize("way", _SHOWN)
def test_frames_are_rotated_and_mirrored_by_the_display_matrix(tmp_path, images, way):
    matrix, shown = _SHOWN[way]
    path = write_film(tmp_path / "a.mp4", images[:3])
    write_matrix(path, matrix)
    footage = open_footage(path)
    expected = shown(images[0])
    assert footage.size == expected.shape[1::-1]
    assert np.abs(next(footage.frames()).image.astype(int) - expected).mean() < 6


def write_streams(path, streams):
    """A file of several video streams: (pictures, disposition) each."""
    with av.open(str(path), "w") as container:
        made = []
        for pictures_, disposition in streams:
            cover = bool(disposition & Disposition.attached_pic)
            stream = container.add_stream("mjpeg" if cover else "libx264", rate=10)
            stream.height, stream.width = pictures_[0].shape[:2]
            stream.pix_fmt = "yuvj420p" if cover else "yuv420p"
            stream.disposition = disposition
            made.append(stream)
        for stream, (pictures_, _) in zip(made, streams, strict=True):
            for i, image in enumerate(pictures_):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_best_video_stream_is_read(tmp_path, images, ending):
    small = [np.ascontiguousarray(image[::2, ::2]) for image in images]
    large = [np.kron(images[0], np.ones((2, 2, 1), np.uint8))]
    main, none = Disposition.default, Disposition(0)
    cases = {
        "a cover and a film": ([(large, Disposition.attached_pic), (images, main)], SIZE),
        "one picture and a film": ([(large, main), (images, none)], SIZE),
        "a small and a large film": ([(small, main), (images, main)], SIZE),
        "the default one": ([(images, none), (small, main)], (SIZE[0] // 2, SIZE[1] // 2)),
    }
    for name, (streams, size) in cases.items():
        footage = open_footage(write_streams(tmp_path / f"{name}.{ending}", streams))
        assert (name, footage.size) == (name, size)
        assert [frame.number for frame in footage.frames()] == list(range(30))


def test_cover_picture_is_not_a_video(tmp_path, images):
    path = write_streams(tmp_path / "a.mp4", [(images[:1], Disposition.attached_pic)])
    with pytest.raises(InputError, match="cover picture"):
        open_footage(path)


def test_concatenated_files_have_increasing_times(tmp_path, images):
    parts = [write_film(tmp_path / f"{i}.ts", images[part]) for i, part in enumerate((slice(0, 18), slice(18, 30)))]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    footage = open_footage(joined)
    assert np.allclose([frame.time for frame in footage.frames()], np.arange(30) / 10)
    assert footage.damage == ""
    assert [note for note in footage.notes if "once" in note] == footage.notes


def test_wrapping_time_stamps(tmp_path, images):
    path, wrapped = write_film(tmp_path / "a.ts", images), tmp_path / "b.ts"
    # 33 bits of 90 kHz: 1.5 s before they are full.
    with av.open(str(path)) as read, av.open(str(wrapped), "w", format="mpegts") as container:
        stream = container.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.pts, packet.dts = (stamp + 2**33 - 3 * 90000 for stamp in (packet.pts, packet.dts))
                packet.stream = stream
                container.mux(packet)
    assert np.allclose([frame.time for frame in open_footage(wrapped).frames()], np.arange(30) / 10, atol=1e-3)


def test_constant_time_stamps(tmp_path, images):
    path = write_film(tmp_path / "a.ts", images)
    data = bytearray(path.read_bytes())
    for at in range(len(data) - 19):
        if data[at : at + 3] == b"\0\0\1" and 0xE0 <= data[at + 3] < 0xF0:
            stamps = {0x80: 1, 0xC0: 2}[data[at + 7] & 0xC0]
            data[at + 9 : at + 9 + 5 * stamps] = bytes([0x31, 0, 1, 0, 1, 0x11, 0, 1, 0, 1][10 - 5 * stamps :])
    path.write_bytes(bytes(data))
    footage = open_footage(path)
    times = [frame.time for frame in footage.frames()]
    assert np.allclose(times, np.arange(len(times)) / footage.clock)
    assert any("without a time stamp of their own" in note for note in footage.notes)


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv", "a.ts", "a.264"])
def test_complete_video_is_not_truncated(tmp_path, images, name):
    # The header of an AVI file counts ticks: 59 for 30 frames.
    times = None if name == "a.264" else [2 * i for i in range(30)]
    footage = open_footage(write_film(tmp_path / name, images, times=times))
    assert len(list(footage.frames())) == 30
    assert footage.damage == ""


def test_frames_may_change_their_size(tmp_path, images):
    small = [np.ascontiguousarray(image[::2, ::2]) for image in images[15:]]
    path = tmp_path / "a.ts"
    path.write_bytes(
        b"".join(write_film(tmp_path / f"{i}.ts", part).read_bytes() for i, part in enumerate((images[:15], small)))
    )
    footage = open_footage(path)
    assert [frame.image.shape[1::-1] for frame in footage.frames()] == [SIZE] * 15 + [(SIZE[0] // 2, SIZE[1] // 2)] * 15
    assert any("2 sizes" in note for note in footage.notes)


def test_truncated_video_is_read_to_its_end_and_noted(tmp_path, images):
    whole = write_film(tmp_path / "a.mp4", images, faststart=True).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: int(0.6 * len(whole))])
    footage = open_footage(path)
    numbers = [frame.number for frame in footage.frames()]
    assert 5 < len(numbers) < 30
    assert numbers == list(range(len(numbers)))
    assert "cannot be decoded" in footage.damage or "ends" in footage.damage


def test_damage_in_the_middle_is_skipped(tmp_path, images):
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
    ("name", "data", "message"),
    [
        ("text.mp4", b"hello, I am a text\n" * 50, "is not a video"),
        ("empty.mp4", b"", "is an empty file"),
        ("junk.avi", bytes(range(256)) * 40, "is not a video"),
    ],
)
def test_non_videos_are_refused_in_one_line(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        open_footage(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_audio_file_is_refused(tmp_path):
    import wave

    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    with pytest.raises(InputError, match="no video stream, only audio"):
        open_footage(path)


def test_missing_file_is_refused(tmp_path):
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


def test_motchallenge_folder_is_a_video(sequence, images):
    footage = open_footage(sequence)
    assert (footage.size, footage.rate, footage.frames_stated) == (SIZE, 5.0, 6)
    frames = list(footage.frames())
    assert np.allclose([frame.time for frame in frames], np.arange(6) / 5)
    assert all(np.array_equal(frame.image, image) for frame, image in zip(frames, images, strict=False))


def test_damaged_image_of_a_sequence_is_skipped(sequence):
    (sequence / "img1" / "000003.png").write_bytes(b"no picture")
    footage = open_footage(sequence)
    assert [frame.number for frame in footage.frames()] == [0, 1, 3, 4, 5]
    assert "000003.png" in footage.damage


def test_invalid_sequences_are_refused(tmp_path):
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
