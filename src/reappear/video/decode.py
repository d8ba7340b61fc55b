"""Footage in, frames out: video files through PyAV, and MOTChallenge folders of images.

A frame's time is its presentation time stamp (pts), counted from the first frame. Raw streams (`.264`) carry none;
their times are the frame number over the rate that the stream states, or over 25 where it states none.
"""

import configparser
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from reappear.core import InputError

ASSUMED_RATE = 25.0


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        number: From 0, in decoding order; frames that could not be decoded keep their number.
        time: Seconds since the first frame.
    """

    number: int
    time: float
    _convert: Callable[[], np.ndarray] = field(repr=False)

    @cached_property
    def image(self) -> UInt8[np.ndarray, "h w 3"]:
        """The picture as RGB, converted when first asked for."""
        return self._convert()


@dataclass
class Footage:
    """One video that can be read from its start any number of times.

    Attributes:
        path: A video file, or a MOTChallenge sequence folder.
        size: Width and height in pixels, as shown (a phone's rotation is applied).
        rate: Frames a second; 0 where the file does not say.
        frames_stated: Frames that the file says it has; 0 where it does not say.
        frames_read: Frames decoded by the last complete reading.
        damage: Why the last reading ended early or skipped frames; empty when it did not.
    """

    path: Path
    size: tuple[int, int]
    rate: float
    frames_stated: int
    _decode: Callable[["Footage"], Iterator[Frame]] = field(repr=False)
    frames_read: int = 0
    damage: str = ""

    @property
    def clock(self) -> float:
        """Frames a second for whoever must have a number."""
        return self.rate or ASSUMED_RATE

    def frames(self, *, stride: int = 1, only: frozenset[int] | None = None) -> Iterator[Frame]:
        """Decodes from the start. Frames are converted to RGB only when their image is asked for.

        Args:
            stride: Yields frames 0, stride, 2 stride, ...
            only: Yields these frame numbers alone, and stops after the last.
        """
        self.frames_read, self.damage = 0, ""
        last = max(only, default=-1) if only is not None else None
        if last == -1:
            return
        for frame in self._decode(self):
            self.frames_read += 1
            if frame.number % stride == 0 if only is None else frame.number in only:
                yield frame
            if frame.number == last:
                return


def open_footage(path: Path) -> Footage:
    """Opens a video file or a MOTChallenge folder and decodes its first frame.

    Raises:
        InputError: There is no picture in it; the message says why.
    """
    return _open_images(path) if path.is_dir() else _open_file(path)


def is_image_sequence(folder: Path) -> bool:
    """Whether a folder is a MOTChallenge sequence: `seqinfo.ini` and a folder of numbered images."""
    return (folder / "seqinfo.ini").is_file()


def sequence_images(folder: Path) -> list[Path]:
    """The images of a MOTChallenge sequence, in order."""
    return sorted(
        p for p in (folder / str(_sequence(folder).get("imDir", "img1"))).glob("*") if p.suffix in (".jpg", ".png")
    )


def _open_file(path: Path) -> Footage:
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = float(stream.guessed_rate or stream.average_rate or 0)
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        footage = Footage(path, (0, 0), rate, stream.frames or round(seconds * rate), _decode_file)
    for first in footage.frames():
        footage.size = (first.image.shape[1], first.image.shape[0])
        return footage
    raise InputError(f"{path}: no frame can be decoded ({footage.damage or 'the stream is empty'}); film it again")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file; copy it again")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a video, or its index is cut off ({_reason(error)}); copy it again") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path} has no video stream, only {', '.join(s.type for s in container.streams)}")
        yield container


def _decode_file(footage: Footage) -> Iterator[Frame]:
    with _opened(footage.path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # videos run in parallel, and errors stay with their packet
        number, lost, start = 0, 0, None
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.FFmpegError as error:
                footage.damage = f"the file ends in the middle ({_reason(error)})"
                break
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if not packet.size:  # the flush at the end
                    break
                number, lost = number + 1, lost + 1
                footage.damage = f"{lost} frames cannot be decoded ({_reason(error)})"
                continue
            for frame in frames:
                if frame.is_corrupt:
                    lost += 1
                    footage.damage = f"{lost} frames cannot be decoded (parts of them are missing)"
                else:
                    if frame.pts is not None and start is None:
                        start = frame.time
                    time = number / footage.clock if frame.pts is None else frame.time - start
                    yield Frame(number, float(time), _converter(frame))
                number += 1
        if not footage.damage and number < stream.frames:
            footage.damage = f"the file ends after {number} of {stream.frames} frames"


def _converter(frame: Any) -> Callable[[], np.ndarray]:
    def convert() -> np.ndarray:
        image: np.ndarray = frame.to_ndarray(format="rgb24")
        quarters = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image

    return convert


def _open_images(folder: Path) -> Footage:
    if not is_image_sequence(folder):
        raise InputError(f"{folder} is not a MOTChallenge sequence: it has no seqinfo.ini")
    images = sequence_images(folder)
    if not images:
        raise InputError(f"{folder} has no images in {_sequence(folder).get('imDir', 'img1')}/")
    try:
        rate = float(_sequence(folder).get("frameRate", 0))
    except ValueError as error:
        raise InputError(f"{folder / 'seqinfo.ini'}: frameRate must be a number ({error})") from error
    footage = Footage(folder, (0, 0), rate, len(images), _decode_images)
    for first in footage.frames():
        footage.size = (first.image.shape[1], first.image.shape[0])
        return footage
    raise InputError(f"{folder}: no image can be decoded")


def _decode_images(footage: Footage) -> Iterator[Frame]:
    lost = 0
    for path in sequence_images(footage.path):
        # The number is in the name: 000001.jpg is frame 0.
        number = int(path.stem) - 1 if path.stem.isdigit() else -1
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB) if path.stat().st_size else None
        if image is None or number < 0:
            lost += 1
            footage.damage = f"{lost} images cannot be read, the last is {path.name}"
            continue
        yield Frame(number, number / footage.clock, partial(np.asarray, image))


def _sequence(folder: Path) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read(folder / "seqinfo.ini", encoding="utf-8")
        return dict(parser["Sequence"])
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / 'seqinfo.ini'} is not a MOTChallenge sequence file: no [Sequence] part") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
