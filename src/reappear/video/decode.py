"""Decodes video files (PyAV) and MOTChallenge folders of images into frames.

A frame's time is its presentation time stamp (pts), counted from the first frame, and strictly increasing: `Clock`
corrects stamps that restart, repeat or are missing. Raw streams (`.264`) carry none; their times are the frame number
divided by the rate of the stream, or by 25 where it has none.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from reappear.core import InputError, counted
from reappear.core.files import read_bytes
from reappear.data import decode_image

from .clock import Clock
from .sequence import MAX_RATE, ImageSequence, read_sequence

ASSUMED_RATE = 25.0
_MAX_IMAGE_BYTES = 1 << 30
_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        number: From 0, in decoding order; frames that could not be decoded keep their number.
        time: Seconds since the first frame; larger than that of every frame before.
    """

    number: int
    time: float
    _convert: Callable[[], np.ndarray] = field(repr=False)

    @cached_property
    def image(self) -> UInt8[np.ndarray, "h w 3"]:
        """The image as RGB, converted on first use. Sizes may differ between frames."""
        return self._convert()


@dataclass
class Footage:
    """One video, which can be read from its start any number of times.

    Attributes:
        path: A video file, or a MOTChallenge sequence folder.
        size: Width and height of the first frame in pixels, as displayed (rotated and mirrored by the display matrix).
        rate: Frames a second; 0 = unknown.
        frames_stated: Number of frames in the header; 0 = unknown.
        frames_read: Frames decoded by the last complete reading.
        damage: Why the last reading ended early or skipped frames; empty when it did not.
        notes: Messages to the user about how it was read, one line each.
    """

    path: Path
    size: tuple[int, int]
    rate: float
    frames_stated: int
    _decode: Callable[["Footage"], Iterator[Frame]] = field(repr=False)
    frames_read: int = 0
    damage: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def clock(self) -> float:
        """Frames a second, with a default where unknown."""
        return self.rate or ASSUMED_RATE

    def note(self, text: str) -> None:
        """Adds a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def frames(self, *, stride: int = 1, only: frozenset[int] | None = None) -> Iterator[Frame]:
        """Decodes from the start, in the order of number and time.

        Args:
            stride: Yields frames 0, stride, 2 stride, ...
            only: Yields only these frame numbers, and stops after the last.
        """
        self.frames_read, self.damage = 0, ""
        last = max(only, default=-1) if only is not None else None
        if last == -1:
            return
        for frame in self._decode(self):
            self.frames_read += 1
            if frame.number % stride == 0 if only is None else frame.number in only:
                yield frame
            if last is not None and frame.number >= last:
                return


def open_footage(path: Path) -> Footage:
    """Opens a video file or a MOTChallenge folder and decodes its first frame.

    Raises:
        InputError: No frame can be decoded; the message has the reason.
    """
    footage = _open_images(path) if path.is_dir() else _open_file(path)
    for first in footage.frames():
        footage.size = (first.image.shape[1], first.image.shape[0])
        return footage
    raise InputError(f"{path}: no frame can be decoded ({footage.damage or 'the stream is empty'}); check the file")


def _open_file(path: Path) -> Footage:
    index, note = _choose_stream(path)
    with _opened(path) as container:
        stream = container.streams[index]
        rate = float(stream.guessed_rate or stream.average_rate or 0)
        rate = rate if 0 < rate < MAX_RATE else 0.0
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        footage = Footage(
            path, (0, 0), rate, stream.frames or max(0, round(seconds * rate)), partial(_decode_file, index)
        )
    if note:
        footage.note(note)
    return footage


def _choose_stream(path: Path) -> tuple[int, str]:
    """The index of the video stream to read, and a note where there are several.

    Cover pictures are excluded; among streams at least half as long as the longest: the default one, then the largest,
    then the first.
    """
    with _opened(path) as container:
        streams = [s for s in container.streams.video if s.codec_context is not None]
        videos = [s for s in streams if not s.disposition & _PICTURE]
        if not videos:
            found = "cover pictures" if streams else "streams that cannot be decoded"
            raise InputError(f"{path} has no video stream, only {found}; give a video")
        if len(videos) == 1:
            return videos[0].index, ""
        packets = Counter[int]()
        with contextlib.suppress(av.FFmpegError):  # truncation is detected while decoding
            packets.update(packet.stream_index for packet in container.demux(videos) if packet.size)
        most = max(packets.values(), default=0)
        best = max(
            (stream for stream in videos if 2 * packets[stream.index] >= most),
            key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index),
        )
        text = (
            f"{counted(len(videos), 'video stream')}; stream {best.index} is read ({best.width} x {best.height} pixels)"
        )
        return best.index, text


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file; give a video")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file; copy it again")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError, UnicodeError) as error:
        raise InputError(f"{path} is not a video, or its index is cut off ({_reason(error)}); copy it again") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path} has no video stream, only {', '.join(s.type for s in container.streams)}")
        yield container


def _decode_file(index: int, footage: Footage) -> Iterator[Frame]:
    with _opened(footage.path) as container:
        stream = container.streams[index]
        stream.codec_context.thread_count = 1  # videos run in parallel, and errors belong to one packet
        clock, to_rgb = Clock(footage.clock), VideoReformatter()
        number, lost, packets_read = 0, 0, 0
        begin: float | None = None
        end, sizes = 0.0, set()
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.FFmpegError as error:
                footage.damage = f"the file is truncated ({_reason(error)})"
                break
            if not packet.size and packet.dts is not None:
                continue  # stands for a repeated frame
            packets_read += bool(packet.size)
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if not packet.size:  # the flush at the end
                    break
                number, lost = number + 1, lost + 1
                footage.damage = f"{counted(lost, 'frame')} cannot be decoded ({_reason(error)})"
                continue
            for frame in frames:
                if frame.is_corrupt:
                    lost += 1
                    footage.damage = f"{counted(lost, 'frame')} cannot be decoded (parts of them are missing)"
                else:
                    stamp = None if frame.pts is None else float(frame.time)
                    if stamp is not None:
                        begin = stamp if begin is None else begin
                        end = stamp + float((frame.duration or 0) * frame.time_base)
                    sizes.add((frame.width, frame.height))
                    yield Frame(number, clock.time(number, stamp), _converter(frame, to_rgb))
                number += 1
        # A header may count fields, ticks or frames hidden by an edit list: only where time is missing too, the file
        # was cut.
        short = max(number, packets_read) < stream.frames
        if stream.duration and begin is not None:
            stated, span = float(stream.duration * stream.time_base), end - begin
            short = short and span < stated - 1.5 * span / max(number, 1)
        if not footage.damage and short:
            footage.damage = f"the file ends after {number} of {counted(stream.frames, 'frame')}"
        _note_reading(footage, clock, number - lost, sizes)


def _note_reading(footage: Footage, clock: Clock, frames: int, sizes: set[tuple[int, int]]) -> None:
    if clock.restarts:
        times = counted(clock.restarts, "time") if clock.restarts > 1 else "once"
        footage.note(f"time stamps jump {times}; each part is placed one frame interval after the one before")
    if clock.derived:
        rate = f"{footage.clock:g} frames a second" + ("" if footage.rate else ", assumed: the file states no rate")
        footage.note(
            f"without a time stamp of their own: {clock.derived:,} of {counted(frames, 'frame')}; their times are "
            f"computed from {rate}"
        )
    _note_sizes(footage, sizes)


def _note_sizes(footage: Footage, sizes: set[tuple[int, int]]) -> None:
    if len(sizes) > 1:
        shown = ", ".join(f"{width} x {height}" for width, height in sorted(sizes)[:4])
        footage.note(
            f"frames have {counted(len(sizes), 'size')} ({shown} pixels); boxes are relative to the size of their frame"
        )


def _converter(frame: Any, to_rgb: VideoReformatter) -> Callable[[], np.ndarray]:
    """Converts one frame; the tables of `to_rgb` serve all frames of a video and take longer to make than to use."""

    def convert() -> np.ndarray:
        image: np.ndarray = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
        matrix = frame.side_data.get(Type.DISPLAYMATRIX)
        return image if matrix is None else _as_shown(image, np.frombuffer(bytes(matrix), np.int32))

    return convert


def _as_shown(image: UInt8[np.ndarray, "h w 3"], matrix: np.ndarray) -> UInt8[np.ndarray, "_h _w 3"]:
    """Rotates and mirrors an image by a display matrix (ISO 14496-12, 6.2.2), to the nearest quarter turn.

    A pixel at x to the right and y down is shown at (a x + c y, b x + d y).
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, right, down = image.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    if right < 0:
        image = image[:, ::-1]
    if down < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _open_images(folder: Path) -> Footage:
    sequence = read_sequence(folder)
    return Footage(folder, (0, 0), sequence.rate, len(sequence.images), partial(_decode_images, sequence))


def _decode_images(sequence: ImageSequence, footage: Footage) -> Iterator[Frame]:
    lost, sizes = len(sequence.unnumbered), set()
    if lost:
        footage.damage = f"without a number in their name: {counted(lost, 'image')}, such as {sequence.unnumbered[0]}"
    start = min(sequence.images)
    for number, path in sequence.images.items():
        image = _read_image(path)
        if image is None:
            lost += 1
            footage.damage = f"{counted(lost, 'image')} cannot be read, the last is {path.name}"
            continue
        sizes.add((image.shape[1], image.shape[0]))
        # The number is in the name: 000001.jpg is frame 0.
        yield Frame(number - sequence.first, (number - start) / footage.clock, partial(np.asarray, image))
    _note_sizes(footage, sizes)


def _read_image(path: Path) -> np.ndarray | None:
    try:
        return decode_image(read_bytes(path, max_bytes=_MAX_IMAGE_BYTES))
    except InputError:
        return None


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
