"""Searches the sightings of a workspace for a person: by an image, a crop, an identity, or a box in a video."""

import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import (
    OPERATIONAL,
    SILENT,
    Count,
    InputError,
    NotNegative,
    Progress,
    SettingsError,
    counted,
    read_bytes,
    settings,
    thread_map,
    unknown_name,
)
from reappear.data import decode_image
from reappear.store import CropStore, read_embeddings, read_table
from reappear.video import ENDINGS, CropSettings, cut, encode_jpeg, is_image_sequence, open_footage

from .embed import embed_like, require_embeddings
from .engines import format_memory, parse_memory
from .record import read_record
from .search_calibration import Calibration
from .settings import resolve
from .workspace import Workspace

_NEEDED = 250 << 20  # bytes for the program
_PER_CROP, _PER_TRACKLET = 40, 200  # bytes of columns
_THREADS = 16  # blocks under way at once, at most
_MARGIN = 1e-5  # similarity by which products in float32 may be wrong
_MAX_BYTES = 256 << 20  # of an image
_NUMBERED = re.compile(r"(crop|tracklet|identity):(\d{1,18})")


@settings
class SearchSettings:
    """Which sightings are listed."""

    top: Annotated[Count, "sightings listed at most"] = 20
    camera: Annotated[str | None, "sightings of this camera alone; of all if not given"] = None
    after: Annotated[NotNegative | None, "sightings that end later, seconds in their video; all if not given"] = None
    before: Annotated[NotNegative | None, "sightings that begin earlier, seconds in their video; all if not given"] = (
        None
    )
    memory: Annotated[float | str, "memory that may be taken, such as 1GB. The result is the same", OPERATIONAL] = "1GB"

    def __post_init__(self) -> None:
        parse_memory(self.memory)


@dataclass(frozen=True)
class Query:
    """The person to search for.

    Attributes:
        text: An image file; crop:N, tracklet:N or identity:N of the workspace; or a video, by its path or its name in
            the workspace.
        time: Seconds in the video.
        box: Left, top, right, bottom in pixels of the frame or the image; None = the whole image.
    """

    text: str
    time: float | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Sighting:
    """One tracklet among the results.

    Attributes:
        rank: From 1.
        identity: Of its nearest crop; None = discarded, or there are no identities.
        camera: Name of the camera.
        video: Name of the video.
        start: Seconds in the video; None = unknown.
        end: Its end.
        tracklet: Its number, as the tracker made it.
        crop: Number of its nearest crop.
        distance: Cosine distance of that crop to the query, in [0, 2].
        probability: That it is the person of the query, in [0, 1]; None = unknown.
    """

    rank: int
    identity: int | None
    camera: str
    video: str
    start: float | None
    end: float | None
    tracklet: int
    crop: int
    distance: float
    probability: float | None

    def plain(self) -> dict[str, Any]:
        """The columns as they are written: `start` and `end` are called `from` and `to`."""
        names = {"start": "from", "end": "to"}
        return {names.get(name, name): value for name, value in vars(self).items()}


@dataclass(frozen=True)
class SearchResult:
    """Ranked sightings.

    Attributes:
        query: As it was given.
        identities: Name of the identities; None = there are none.
        embeddings: Name of the embeddings.
        sightings: The nearest first; of equal distance by number.
        image: The query as an encoded image; None = it is of the workspace.
        crops: The crops that the query consists of, where it is of the workspace.
    """

    query: str
    identities: str | None
    embeddings: str
    sightings: list[Sighting]
    image: bytes | None
    crops: Int[np.ndarray, " q"]

    def plain(self) -> dict[str, Any]:
        """The result as plain types for JSON, without images."""
        return {
            "query": self.query,
            "identities": self.identities,
            "embeddings": self.embeddings,
            "sightings": [one.plain() for one in self.sightings],
        }


def search(
    work: Workspace,
    query: Query,
    settings: SearchSettings,
    *,
    identities: str | None = None,
    embeddings: str | None = None,
    progress: Progress = SILENT,
) -> SearchResult:
    """Ranks the tracklets of a workspace by the cosine distance of their nearest crop to the query.

    The search is exact, and reads the embeddings in blocks. Tracklets that the query consists of are left out. An
    identity is searched for by the mean of its crops.

    Probabilities are those of the links of the identities (`SightingProbability`): some tracklets are searched for
    beside the query, and the links say how many of what they find is right.

    Args:
        work: A workspace with embeddings.
        query: The person.
        settings: Which sightings are listed.
        identities: Name of the identities shown, and from whose links probabilities are; the newest if not given.
        embeddings: Name of the embeddings compared; the newest of a round, or of all, if not given.
        progress: Progress listener.

    Raises:
        InputError: The query cannot be read, or does not exist in the workspace.
        SettingsError: The memory is too little, or there is no such camera.
    """
    store = work.open_crops()
    name = embeddings or work.newest_embeddings()
    vectors, _ = read_embeddings(require_embeddings(work, name))
    if len(vectors) != len(store):
        raise InputError(
            f"{work.embeddings(name)} holds {counted(len(vectors), 'row')} for {counted(len(store), 'crop')}; "
            "embed anew"
        )
    whose = identities or (work.newest_identities() if work.has_identities() else None)
    identity = _crop_identities(work, whose, len(store))
    listed = _listed(store, settings)
    vector, image, crops = _resolve(query, work, store, name, vectors, identity)
    calibration = Calibration(work, whose, store, vectors)
    width = vectors.shape[1] + len(calibration.queries)
    starts = _block_starts(store.offsets, _block_rows(settings, len(store), len(store.offsets) - 1, width))
    with progress.task("searching", len(vectors), "crop") as tick:
        similarity = _similarities(vectors, vector, store.offsets, starts, calibration, tick)
    best = np.maximum.reduceat(similarity, store.offsets[:-1])
    best[store.origin[crops]] = -np.inf
    found = _nearest(similarity, np.where(listed, best, -np.inf), vectors, vector, store.offsets, settings.top)
    sure = None
    if found and not calibration.lacking:
        sure = calibration.probability(best, np.array([1 - distance for _, _, distance in found]))
    if calibration.lacking:
        progress.note(f"search: sightings have no probability: {calibration.lacking}")
    sightings = [
        _sighting(store, identity, rank, *one, None if sure is None else float(sure[rank - 1]))
        for rank, one in enumerate(found, 1)
    ]
    return SearchResult(query.text, whose, name, sightings, image, crops)


def _crop_identities(work: Workspace, name: str | None, crops: int) -> Int[np.ndarray, " n"]:
    if name is None:
        return np.full(crops, -1, np.int64)
    found = read_table(work.finished_identities(name) / "identities.parquet", "identity")["identity"]
    if len(found) != crops:
        raise InputError(
            f"{work.identities(name)} has {counted(len(found), 'row')} for {counted(crops, 'crop')}; correlate anew"
        )
    return np.asarray(found, np.int64)


def _block_rows(settings: SearchSettings, crops: int, tracklets: int, width: int) -> int:
    """Rows of embeddings that are compared at a time, in each thread; `width` values belong to each."""
    needed = _NEEDED + _PER_CROP * crops + _PER_TRACKLET * tracklets
    rows = (parse_memory(settings.memory) - needed) // (_THREADS * 4 * width)
    if rows < 1:
        least = needed + _THREADS * 4 * width
        raise SettingsError(
            f"memory: {settings.memory} is too little to search {counted(crops, 'crop')}; "
            f"give {format_memory(least)} or more"
        )
    return min(4096, rows)


def _listed(store: CropStore, settings: SearchSettings) -> Bool[np.ndarray, " t"]:
    """The tracklets that may be listed."""
    rows = store.tracklets
    listed = np.ones(len(store.offsets) - 1, bool)
    if settings.camera is not None:
        cameras = np.array([video.camera for video in store.videos], np.str_)
        if settings.camera not in cameras:
            raise SettingsError(f"camera: {unknown_name('camera', settings.camera, sorted(set(cameras.tolist())))}")
        listed &= cameras[rows["video"]] == settings.camera
    if settings.after is not None:
        listed &= np.asarray(rows["end"]) >= settings.after
    if settings.before is not None:
        listed &= np.asarray(rows["start"]) <= settings.before
    return listed


def _resolve(
    query: Query, work: Workspace, store: CropStore, name: str, vectors: np.ndarray, identity: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " d"], bytes | None, Int[np.ndarray, " q"]]:
    """The vector of the query; its image, or its crops."""
    numbered = _NUMBERED.fullmatch(query.text)
    if numbered is None:
        image = _image(query, work, store)
        (vector,) = embed_like(work, name, [image])
        if not vector.any():
            raise InputError(f"{query.text}: the extractor of {name} has no vector for it; give another image")
        return vector, image, np.zeros(0, np.int64)
    if query.time is not None or query.box is not None:
        raise SettingsError(f"{query.text} is a query by itself; leave out --time and --box")
    kind, number = numbered[1], int(numbered[2])
    of = {"crop": np.arange(len(store)), "tracklet": store.origin, "identity": identity}[kind]
    crops = np.flatnonzero(of == number)
    if not len(crops):
        raise InputError(f"{work.root} has no {kind} {number}; see `reappear explain`")
    total = sum(np.asarray(vectors[crop], np.float64) for crop in crops.tolist())
    norm = float(np.linalg.norm(total))
    if not norm > 0:
        raise InputError(f"{query.text} has no embedding in {name}; choose another query")
    return np.asarray(total / norm, np.float32), None, crops


def _image(query: Query, work: Workspace, store: CropStore) -> bytes:
    """The query as an encoded image, cut out as crops are."""
    path = Path(query.text)
    names = store.video_names
    if not path.exists() and query.text in names:
        path = store.videos[names.index(query.text)].path
    is_video = path.suffix.lower() in ENDINGS or is_image_sequence(path)
    if is_video and (query.time is None or query.box is None):
        raise SettingsError(f"{query.text} is a video: give --time SECONDS and --box LEFT,TOP,RIGHT,BOTTOM")
    if not is_video and query.time is not None:
        raise SettingsError(f"{query.text} is not a video; leave out --time")
    if query.time is not None and not 0 <= query.time < np.inf:
        raise SettingsError(f"time: must be seconds from 0, got {query.time:g}")
    if is_video:
        pixels = _frame(path, float(query.time or 0.0))
    else:
        data = read_bytes(path, max_bytes=_MAX_BYTES)
        try:
            pixels = decode_image(data)
        except InputError as error:
            raise InputError(
                f"{path}: {error}; a query is an image, a video, crop:N, tracklet:N or identity:N"
            ) from error
        if query.box is None:
            return data
    rules = resolve(CropSettings, read_record(work.crops).settings.get("crop", {}))
    box = np.asarray(query.box, np.float64)
    height, width = pixels.shape[:2]
    if not (np.all(box[:2] < box[2:]) and np.all(box[:2] < (width, height)) and np.all(box[2:] > 0)):
        given = ",".join(f"{side:g}" for side in box.tolist())
        raise SettingsError(f"box: {given} is not inside the image of {width} x {height} pixels, or has no area")
    return encode_jpeg(cut(pixels, box, padding=rules.padding, max_height=rules.max_height), rules.quality)


def _frame(path: Path, time: float) -> np.ndarray:
    """The frame shown at `time`: the last that does not begin later."""
    footage = open_footage(path)
    shown = None
    for frame in footage.frames():
        if frame.time > time:
            break
        shown = frame
    else:
        if shown is not None and time > shown.time + 1 / footage.clock:
            raise InputError(f"{path} ends at {shown.time:.3f} s; there is no frame at {time:g} s")
    if shown is None:
        raise InputError(f"{path} has no frame at {time:g} s; give a time from 0")
    return shown.image


def _block_starts(offsets: Int[np.ndarray, " _"], rows: int) -> Int[np.ndarray, " b"]:
    """First tracklets of blocks of some `rows` crops, and the number of tracklets."""
    last = np.searchsorted(offsets, np.arange(0, offsets[-1], rows), side="right") - 1
    return np.append(np.unique(last), len(offsets) - 1)


def _similarities(
    vectors: Float[np.ndarray, "n d"],
    vector: Float[np.ndarray, " d"],
    offsets: Int[np.ndarray, " _"],
    starts: Int[np.ndarray, " b"],
    calibration: Calibration,
    tick: Any,
) -> Float[np.ndarray, " n"]:
    """Inner products of all rows with a vector, in float32; -inf for rows of zeros. Takes the calibration along."""
    queries = np.ascontiguousarray(calibration.queries.T)

    def compare(block: tuple[int, int]) -> tuple[int, Float[np.ndarray, " b"], Float[np.ndarray, "t q"]]:
        first, last = block
        rows = np.asarray(vectors[offsets[first] : offsets[last]], np.float32)
        found = np.asarray(rows @ vector, np.float32)
        zero = np.flatnonzero(found == 0)
        zero = zero[~rows[zero].any(axis=1)]
        found[zero] = -np.inf
        others = rows @ queries
        others[zero] = -np.inf
        return first, found, np.maximum.reduceat(others, offsets[first:last] - offsets[first], axis=0)

    mapped: object = vectors.base

    out = np.empty(len(vectors), np.float32)
    for first, found, others in thread_map(compare, pairwise(starts.tolist())):
        out[offsets[first] : offsets[first] + len(found)] = found
        if len(queries.T):
            calibration.add(first, others)
        tick(len(found))
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)  # pages that were read are no memory of this process
    return out


def _nearest(
    similarity: Float[np.ndarray, " n"],
    best: Float[np.ndarray, " t"],
    vectors: Float[np.ndarray, "n d"],
    vector: Float[np.ndarray, " d"],
    offsets: Int[np.ndarray, " _"],
    top: int,
) -> Sequence[tuple[int, int, float]]:
    """Tracklet, crop and distance of the nearest tracklets; recomputed in float64, so that no rounding decides.

    Args:
        similarity: Of each crop to the query.
        best: That of the nearest crop of each tracklet; -inf = not listed.
        vectors: Of the crops.
        vector: Of the query.
        offsets: Of the tracklets.
        top: How many.
    """
    top = min(top, int(np.count_nonzero(np.isfinite(best))))
    if not top:
        return []
    least = np.partition(best, len(best) - top)[len(best) - top] - _MARGIN
    exact = []
    for tracklet in np.flatnonzero(best >= least).tolist():
        first, last = int(offsets[tracklet]), int(offsets[tracklet + 1])
        near = first + np.flatnonzero(similarity[first:last] >= best[tracklet] - _MARGIN)
        distance = 1.0 - np.asarray(vectors[near], np.float64) @ np.asarray(vector, np.float64)
        crop = int(distance.argmin())
        exact.append((tracklet, int(near[crop]), max(0.0, float(distance[crop]))))
    return sorted(exact, key=lambda one: (one[2], one[0]))[:top]


def _sighting(
    store: CropStore,
    identity: Int[np.ndarray, " n"],
    rank: int,
    tracklet: int,
    crop: int,
    distance: float,
    probability: float | None,
) -> Sighting:
    rows = store.tracklets
    video = int(rows["video"][tracklet])
    start, end = float(rows["start"][tracklet]), float(rows["end"][tracklet])
    return Sighting(
        rank=rank,
        identity=int(identity[crop]) if identity[crop] >= 0 else None,
        camera=store.videos[video].camera,
        video=store.video_names[video],
        start=None if np.isnan(start) else round(start, 3),
        end=None if np.isnan(end) else round(end, 3),
        tracklet=tracklet,
        crop=crop,
        distance=round(distance, 6),
        probability=None if probability is None else round(probability, 3),
    )
