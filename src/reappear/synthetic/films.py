"""Renders films as H.264 files with ground truth, and test crops from a few frames."""

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
from .crops import crop_image
from .scenes import Frame, render_frame
from .world import Film, World

TEST_STEP = 0.75  # seconds between the rendered frames of a test recording
_TEST_VISIBLE = 0.7  # least visible share of a body in a test image
_JPEG = 90


def render_film(world: World, film: Film, numbers: Iterable[int] | None = None) -> Iterator[tuple[int, Frame]]:
    """Renders frames of a film with the effects of its camera.

    Args:
        world: The world of the film.
        film: The film.
        numbers: Numbers of the frames, from 0; all by default.

    Yields:
        Number of the frame; the frame.
    """
    camera = world.camera(film)
    for number in range(film.frames) if numbers is None else numbers:
        frame = render_frame(camera, film.walks, world.people_by_id, number / camera.rate, shadow=world.shadow)
        seen = camera.capture(frame.image, film.name, number)
        yield number, Frame(seen, frame.person, frame.box, frame.visibility)


def encode_film(world: World, film: Film, video: BufferedIOBase) -> str:
    """Encodes a film as MP4 (H.264).

    Args:
        world: The world of the film.
        film: The film.
        video: Seekable binary file that the MP4 is written to.

    Returns:
        Ground truth as MOTChallenge text: frame (from 1), id, left, top, width, height, 1, 1, visibility. Ids are the
        same in all films.
    """
    camera = world.camera(film)
    lines: list[str] = []
    with av.open(video, "w", format="mp4") as container:
        stream = _stream(container, camera)
        for number, frame in render_film(world, film):
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
class PersonImage:
    """A crop of one test person.

    Attributes:
        person: Id.
        frame: Number of the frame, from 0.
        image: RGB crop.
    """

    person: int
    frame: int
    image: UInt8[np.ndarray, "h w 3"]

    def jpeg(self) -> bytes:
        """The crop as a JPEG file."""
        made, data = cv2.imencode(".jpg", self.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG])
        assert made  # noqa: S101 (an image of at least one pixel is always encoded)
        return data.tobytes()


def render_test_images(world: World, film: Film) -> list[PersonImage]:
    """Crops of each person in a test recording: `world.test_images` each, spread evenly over their time in view."""
    step = max(round(TEST_STEP * world.camera(film).rate), 1)
    taken: dict[int, list[PersonImage]] = {}
    for number, frame in render_film(world, film, range(0, film.frames, step)):
        for person, box, visibility in zip(frame.person.tolist(), frame.box, frame.visibility, strict=True):
            if visibility >= _TEST_VISIBLE:
                rng = generator(world.seed, "jitter", film.name, number, person)
                taken.setdefault(person, []).append(PersonImage(person, number, crop_image(frame.image, box, rng)))
    out = []
    for person in sorted(taken):
        mine = taken[person]
        chosen = np.unique(np.rint(np.linspace(0, len(mine) - 1, min(world.test_images, len(mine)))).astype(int))
        out += [mine[i] for i in chosen]
    return out
