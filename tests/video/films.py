"""Small films made for tests: upright coloured figures that walk over a still, speckled ground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (192, 144)  # width, height
BODY = (16, 44)


@dataclass(frozen=True)
class Walker:
    """Somebody who walks `speed` pixels a frame to the right from `left`, with the feet at `foot`."""

    identity: int
    left: float
    foot: int
    speed: float
    color: tuple[int, int, int]

    def box(self, frame: int) -> np.ndarray:
        left = self.left + self.speed * frame
        return np.array([left, self.foot - BODY[1], left + BODY[0], self.foot])


WALKERS = (Walker(7, 10, 70, 2.5, (220, 40, 40)), Walker(9, 150, 130, -2.5, (40, 60, 220)))


def pictures(frames: int, walkers: Sequence[Walker] = WALKERS, seed: int = 0) -> list[np.ndarray]:
    ground = np.random.default_rng(seed).integers(90, 130, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    ground = ground.repeat(8, axis=0).repeat(8, axis=1)
    out = []
    for frame in range(frames):
        image = ground.copy()
        for walker in walkers:
            left, top, right, bottom = np.clip(walker.box(frame).round().astype(int), 0, (*SIZE, *SIZE))
            middle = (top + bottom) // 2
            image[top:middle, left:right] = walker.color
            image[middle:bottom, left:right] = 255 - np.array(walker.color)
        out.append(image)
    return out


def write_film(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    rate: int = 10,
    times: Sequence[int] | None = None,
    faststart: bool = False,
) -> Path:
    """H.264; `times` are time stamps in units of 1/rate, if they are not 0, 1, 2, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "ultrafast", "g": "10"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i if times is None else times[i]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_films(folder: Path, cast: Mapping[str, Sequence[Walker]], frames: int) -> Path:
    """A film and its truth for each name, of other noise each; returns the folder."""
    for number, (name, walkers) in enumerate(cast.items()):
        write_film(folder / f"{name}.mp4", pictures(frames, walkers, seed=number))
        write_truth(folder / f"{name}.gt.txt", frames, walkers)
    return folder


def write_truth(path: Path, frames: int, walkers: Sequence[Walker] = WALKERS) -> Path:
    lines = []
    for frame in range(frames):
        for walker in walkers:
            left, top, right, bottom = walker.box(frame)
            lines.append(f"{frame + 1},{walker.identity},{left},{top},{right - left},{bottom - top},1,1,1.0")
    path.write_text("\n".join(lines) + "\n")
    return path
