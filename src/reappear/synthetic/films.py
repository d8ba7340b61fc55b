"""From a film's description to an H.264 file and its ground truth, and to crops of a few of its frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BufferedIOBase

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from reappear.core import generator

from .cameras import Camera
from .crops import cut
from .scenes import Frame, picture
from .world import Film, World

PROBE_STEP = 0.75  # seconds between the painted frames of a probe recording
_PROBE_VISIBLE = 0.7  # least visible share of a body in a probe image
_JPEG = 90


def shoot(world: World, film: Film, numbers: Iterable[int] | None = None) -> Iterator[tuple[int, Frame]]:
    """Paints frames of a film, as its camera sees them.

    Args:
        world: Where it plays.
        film: One of its films.
        numbers: Which frames, from 0; all by default.

    Yields:
        Number of the frame; the frame, with the camera's effects.
    """
    camera = world.camera(film)
    for number in range(film.frames) if numbers is None else numbers:
        frame = picture(camera, film.walks, world.by_id, number / camera.rate, shadow=world.shadow)
        seen = camera.capture(frame.image, film.name, number)
        yield number, Frame(seen, frame.person, frame.box, frame.visibility)


def record(world: World, film: Film, video: BufferedIOBase) -> str:
    """Films it.

    Args:
        world: Where it plays.
        film: One of its films.
        video: Receives an MP4 file; must be seekable.

    Returns:
        Ground truth as MOTChallenge text: frame (from 1), id, left, top, width, height, 1, 1, visibility. Ids hold
        across films.
    """
    camera = world.camera(film)
    lines: list[str] = []
    with av.open(video, "w", format="mp4") as container:
        stream = _stream(container, camera)
        for number, frame in shoot(world, film):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24")))
            for person, (x0, y0, x1, y1), visibility in zip(frame.person, frame.box, frame.visibility, strict=True):
                if visibility >= world.visible:
                    lines.append(
                        f"{number + 1},{person},{x0:.0f},{y0:.0f},{x1 - x0:.0f},{y1 - y0:.0f},1,1,{visibility:.3f}\n"
                    )
        container.mux(stream.encode(None))
    return "".join(lines)


def _stream(container: av.container.OutputContainer, camera: Camera) -> av.VideoStream:
    stream = container.add_stream(
        "libx264",
        rate=Fraction(camera.rate).limit_denominator(1001),
        options={"preset": "superfast", "crf": str(camera.crf), "g": str(max(int(4 * camera.rate), 1))},
    )
    stream.width, stream.height = camera.size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # the same bytes on every machine
    return stream


@dataclass(frozen=True)
class Shot:
    """A picture of one probe person.

    Attributes:
        person: Id.
        frame: Number of the frame, from 0.
        image: RGB, cut from the frame.
    """

    person: int
    frame: int
    image: UInt8[np.ndarray, "h w 3"]

    def jpeg(self) -> bytes:
        """As stored."""
        made, data = cv2.imencode(".jpg", self.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG])
        assert made  # noqa: S101 (an image of at least one pixel is always encoded)
        return data.tobytes()


def shoot_probe(world: World, film: Film) -> list[Shot]:
    """Pictures of everybody in a probe recording: `world.shots` moments each, spread over their time in view."""
    step = max(round(PROBE_STEP * world.camera(film).rate), 1)
    taken: dict[int, list[Shot]] = {}
    for number, frame in shoot(world, film, range(0, film.frames, step)):
        for person, box, visibility in zip(frame.person.tolist(), frame.box, frame.visibility, strict=True):
            if visibility >= _PROBE_VISIBLE:
                rng = generator(world.seed, "jitter", film.name, number, person)
                taken.setdefault(person, []).append(Shot(person, number, cut(frame.image, box, rng)))
    out = []
    for person in sorted(taken):
        mine = taken[person]
        chosen = np.unique(np.rint(np.linspace(0, len(mine) - 1, min(world.shots, len(mine)))).astype(int))
        out += [mine[i] for i in chosen]
    return out
