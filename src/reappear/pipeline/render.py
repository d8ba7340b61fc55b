"""A video with the boxes of its people, coloured by identity, or with the people blurred."""

import colorsys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import av
import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import Float, Int, UInt8

from reappear.core import SILENT, InputError, Only, Progress, SettingsError, counted, settings, unknown_name
from reappear.core import Fraction as Share
from reappear.data import OWN_LABELS
from reappear.store import Columns, atomic_write
from reappear.video import open_footage

from .labels import identities_folder
from .sightings import tracklet_identities, video_boxes
from .workspace import Workspace

_CLOCK = 90_000  # ticks of a time stamp, per second
_HEAD = 0.25  # of the height of a box
_GREY = (150, 150, 150)
_GOLDEN = 0.618034  # turns of hue between numbers, so that neighbours differ


@settings
class RenderSettings:
    """What is drawn."""

    boxes: Annotated[bool, "draw the box and the identity of each person"] = True
    blur: Annotated[
        Literal["none", "heads", "people"],
        "make heads, or whole people, unrecognisable where they were detected",
    ] = "none"
    blur_margin: Annotated[
        Share, "what is blurred is larger on each side by this fraction", Only("blur", "heads", "people")
    ] = 0.1
    crf: Annotated[int, "H.264 quality; lower = better and larger", Interval(ge=0, le=51)] = 23


def render(
    work: Workspace,
    video: str,
    out: Path,
    settings: RenderSettings,
    *,
    identities: str | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Writes a video of a workspace with its people marked, without sound.

    Between two detections of a tracklet its box is interpolated. All tracklets are blurred, also those of no identity;
    people who were not detected, or in no tracklet, are not.

    Args:
        work: A workspace of videos.
        video: Its name in the workspace, or its path.
        out: A new .mp4 file.
        settings: What is drawn.
        identities: Name of identities that `correlate` wrote, the newest if not given; or "tracklet", "given", "true".
        progress: Progress listener.

    Raises:
        InputError: There is no such video, it cannot be read any more, or `out` exists.
        SettingsError: `out` is no .mp4 file.
    """
    if out.suffix.lower() != ".mp4":
        raise SettingsError(f"{out}: must be an .mp4 file")
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} exists; give another file, or remove it")
    number = _find(work, video)
    labels = identities or work.newest_identities()
    if labels not in OWN_LABELS:
        identities_folder(work, labels)
    identity = tracklet_identities(work, labels)
    found = work.open_crops().videos[number]
    rows = fill_gaps(video_boxes(work, number))
    person = np.where(rows["tracklet"] >= 0, identity[rows["tracklet"]], -1)
    footage = open_footage(found.path)
    width, height = (side - side % 2 for side in footage.size)  # H.264 halves the resolution of colours
    with atomic_write(out) as staging, av.open(str(staging), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(footage.clock).limit_denominator(1001), options={"crf": str(settings.crf)}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        with progress.task("rendering", found.frames, "frame") as tick:
            for frame in footage.frames():
                image = frame.image
                if image.shape[1::-1] != footage.size:
                    image = np.asarray(cv2.resize(image, footage.size, interpolation=cv2.INTER_AREA))
                mine = slice(*np.searchsorted(rows["frame"], [frame.number, frame.number + 1]))
                box = _boxes_of(rows, mine) * (np.tile(footage.size, 2) / np.tile(frame.image.shape[1::-1], 2))
                drawn = draw(image.copy(), box, person[mine], settings)
                encoded = av.VideoFrame.from_ndarray(np.ascontiguousarray(drawn[:height, :width]), format="rgb24")
                encoded.pts, encoded.time_base = round(frame.time * _CLOCK), Fraction(1, _CLOCK)
                container.mux(stream.encode(encoded))
                tick(1)
        container.mux(stream.encode(None))
    if footage.damage:
        progress.note(f"render: {found.path}: {counted(footage.frames_read, 'frame')} read; {footage.damage}")
    return out


def fill_gaps(rows: Columns) -> Columns:
    """Boxes by frame, with those of frames between two detections of a tracklet interpolated.

    Rows that are in no kept tracklet (-1) have no gaps filled, for they may be of several.
    """
    names = ("left", "top", "right", "bottom")
    order = np.lexsort((rows["frame"], rows["tracklet"]))
    tracklet, frame = rows["tracklet"][order], rows["frame"][order]
    box = np.stack([rows[name][order] for name in names], axis=1).astype(np.float64)
    steps = np.where((np.diff(tracklet) == 0) & (tracklet[:-1] >= 0), np.maximum(np.diff(frame), 1), 1)
    begin = np.repeat(np.arange(len(steps)), steps)
    turn = np.arange(len(begin)) - np.repeat(np.cumsum(steps) - steps, steps)
    share = (turn / np.repeat(steps, steps))[:, None]
    filled = box[begin] * (1 - share) + box[np.minimum(begin + 1, len(box) - 1)] * share
    last = slice(len(steps), len(box))
    frames = np.concatenate([frame[begin] + turn, frame[last]])
    boxes = np.concatenate([filled, box[last]])
    numbers = np.concatenate([tracklet[begin], tracklet[last]])
    by_frame = np.argsort(frames, kind="stable")
    columns = {"tracklet": numbers[by_frame], "frame": frames[by_frame]}
    return {**columns, **{name: boxes[by_frame, i] for i, name in enumerate(names)}}


def draw(
    image: UInt8[np.ndarray, "h w 3"],
    box: Float[np.ndarray, "n 4"],
    person: Int[np.ndarray, " n"],
    settings: RenderSettings,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws on a frame: blurs first, then boxes."""
    if settings.blur != "none":
        for one in box:
            _blur(image, one, settings)
    if settings.boxes:
        thick = max(2, round(image.shape[0] / 360))
        for (left, top, right, bottom), number in zip(box.round().astype(int).tolist(), person.tolist(), strict=True):
            color = colour_of(number)
            cv2.rectangle(image, (left, top), (right, bottom), color, thick)
            text, size = str(number) if number >= 0 else "-", image.shape[0] / 720 + 0.25
            (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
            foot = max(top, high + 2 * thick)
            cv2.rectangle(image, (left, foot - high - 2 * thick), (left + wide + 2 * thick, foot), color, -1)
            place = (left + thick, foot - thick)
            cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thick, cv2.LINE_AA)
    return image


def colour_of(identity: int) -> tuple[int, int, int]:
    """The colour of an identity, the same in all videos; grey for -1."""
    if identity < 0:
        return _GREY
    red, green, blue = colorsys.hsv_to_rgb(identity * _GOLDEN % 1, 0.85, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def _blur(image: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, " 4"], settings: RenderSettings) -> None:
    """Replaces a part of the image by a few large squares of its mean colours."""
    left, top, right, bottom = box.tolist()
    wide, high = right - left, bottom - top
    bottom = top + _HEAD * high if settings.blur == "heads" else bottom
    side, up = settings.blur_margin * wide, settings.blur_margin * high
    height, width = image.shape[:2]
    x0, x1 = (int(np.clip(x, 0, width)) for x in (np.floor(left - side), np.ceil(right + side)))
    y0, y1 = (int(np.clip(y, 0, height)) for y in (np.floor(top - up), np.ceil(bottom + up)))
    if x0 >= x1 or y0 >= y1:
        return
    inside = image[y0:y1, x0:x1]
    cells = (4, max(1, round(4 * (y1 - y0) / (x1 - x0))))
    few = cv2.resize(inside, (min(cells[0], x1 - x0), min(cells[1], y1 - y0)), interpolation=cv2.INTER_AREA)
    image[y0:y1, x0:x1] = cv2.resize(few, (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST)


def _boxes_of(rows: Columns, mine: slice) -> Float[np.ndarray, "n 4"]:
    return np.stack([rows[name][mine] for name in ("left", "top", "right", "bottom")], axis=1)


def _find(work: Workspace, video: str) -> int:
    """The number of a video by its name or path."""
    store = work.open_crops()
    if video in store.video_names:
        return store.video_names.index(video)
    for number, one in enumerate(store.videos):
        if one.path == Path(video) or one.path.absolute() == Path(video).absolute():
            return number
    raise InputError(f"{work.root}: {unknown_name('video', video, store.video_names)}")
