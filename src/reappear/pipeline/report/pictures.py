"""Selects crops, identities and errors for the page, as thumbnails."""

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from reappear.core import InputError, counted, offsets_to_owner
from reappear.data import open_image, read_image
from reappear.denoise import DOUBTFUL, weakest_links
from reappear.denoise.trace import CARRIED_OVER
from reappear.pipeline.doubts import unclear_identities
from reappear.store import Columns, CropStore, Identities, read_table

from .gather import Run, majority

_WITHOUT_DISTANCE = {"review": "by review", CARRIED_OVER: "linked through a tracklet that left"}
_SMALL = 72  # height of the crops of the overview in px


@dataclass(frozen=True)
class Picture:
    """One image on the page.

    Attributes:
        source: A data URI; "" where the image cannot be read.
        alt: Alternative text.
        mark: "" or a state: "removed", "moved", "hit", "miss", "miss hard".
        caption: Short text below it.
        wrong: Whether the true person differs from that of the row.
    """

    source: str
    alt: str
    mark: str = ""
    caption: str = ""
    wrong: bool = False


@dataclass(frozen=True)
class Strip:
    """A row of crops under one heading.

    Attributes:
        title: Heading.
        notes: Changes: moved and removed crops.
        pictures: Sorted by time.
        link: How the strip was joined to another: (distance or NaN, tracklet, stage).
    """

    title: str
    pictures: list[Picture]
    notes: list[str] = field(default_factory=list)
    link: tuple[float, int, str] | None = None


@dataclass(frozen=True)
class Person:
    """An identity, or a true person, as strips under camera names.

    Attributes:
        title: Heading.
        facts: Short facts.
        cameras: Camera → strips.
        hidden: Number of strips not shown.
        doubtful: Its weakest link is more likely wrong than right; or, where people are in doubt, it may be none.
    """

    title: str
    facts: list[str]
    cameras: dict[str, list[Strip]]
    hidden: int = 0
    doubtful: bool = False


@dataclass(frozen=True)
class IdentityCard:
    """An identity at a glance.

    Attributes:
        number: Of the identity.
        picture: One of its crops.
        facts: Crops, tracklets and videos.
        doubtful: See `Person`.
    """

    number: int
    picture: Picture
    facts: list[str]
    doubtful: bool


@dataclass(frozen=True)
class ShownVideo:
    """A video and its counts."""

    name: str
    camera: str
    seconds: float
    tracklets: int
    crops: int
    poster: Picture | None


def data_uri(image: bytes | Path, height: int) -> str:
    """A JPEG of at most `height` px as a data URI; "" when it cannot be read."""
    try:
        with open_image(read_image(str(image)) if isinstance(image, Path) else image) as opened:
            small = opened.convert("RGB")
            if small.height > height:
                small = small.resize((max(1, round(small.width * height / small.height)), height), Image.Resampling.BOX)
            out = io.BytesIO()
            small.save(out, "JPEG", quality=82, optimize=True)
    except InputError:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


class Thumbnails:
    """Thumbnails of one workspace.

    Args:
        run: The workspace.
        height: Height of thumbnails, px.
        name: The identities shown; None = none.
        stages: Stage → its title on the page.
    """

    def __init__(self, run: Run, *, height: int, name: str | None, stages: dict[str, str]) -> None:
        self.run = run
        self.height = height
        self.stages = stages
        self.found: Identities | None = run.identities[name] if name is not None else None
        if self.found is not None and len(self.found.assignment.tracklet) != len(run.store):
            raise InputError(
                f"{run.work.identities(name or '')}: {counted(len(self.found.assignment.tracklet), 'crop')}, but "
                f"{run.work.crops} has {len(run.store)}; correlate again"
            )

    @property
    def store(self) -> CropStore:
        """The crops."""
        return self.run.store

    @cached_property
    def origin(self) -> Int[np.ndarray, " n"]:
        """The original tracklet of each crop."""
        return offsets_to_owner(self.store.offsets)

    @cached_property
    def truth(self) -> Int[np.ndarray, " n"]:
        """The true person of each crop; -1 = no person or unknown."""
        return np.asarray(self.store.crops["truth"], np.int64)

    @cached_property
    def _videos(self) -> Columns:
        return read_table(self.store.folder / "videos.parquet", "name", "seconds")

    @cached_property
    def video_names(self) -> list[str]:
        """Unique names of the videos."""
        return [str(name) for name in self._videos["name"]]

    def crop(self, crop: int, *, mark: str = "", caption: str = "", wrong: bool = False) -> Picture:
        """One crop."""
        rows = self.store.crops
        video, frame = self.video_names[int(rows["video"][crop])], int(rows["frame"][crop])
        alt = f"person in video {video}" + (f", frame {frame}" if frame >= 0 else "") + (f", {mark}" if mark else "")
        source = data_uri(self.store.image(crop), self.height) if self.store.has_images else ""
        return Picture(source, alt, mark, caption, wrong)

    def videos(self) -> list[ShownVideo]:
        """All videos."""
        tracklets = np.bincount(self.store.tracklets["video"], minlength=len(self.store.videos))
        crops = np.bincount(self.store.crops["video"], minlength=len(self.store.videos))
        out = []
        for video, name in zip(self.store.videos, self.video_names, strict=True):
            path = self.store.folder / "posters" / f"{video.id:05d}.jpg"
            source = data_uri(path, 200) if path.exists() else ""
            out.append(
                ShownVideo(
                    name=name,
                    camera=video.camera,
                    seconds=float(self._videos["seconds"][video.id]),
                    tracklets=int(tracklets[video.id]),
                    crops=int(crops[video.id]),
                    poster=Picture(source, f"a frame of video {name}") if source else None,
                )
            )
        return out

    def tracklets(self, most: int, crops: int) -> list[Strip]:
        """Original tracklets with at least two crops, sampled evenly."""
        lengths = np.diff(self.store.offsets)
        return [
            Strip(self.title(t), [self.crop(c) for c in _even(self.rows(t), crops)])
            for t in _even(np.flatnonzero(lengths > 1), most)
        ]

    def rows(self, tracklet: int) -> Int[np.ndarray, " k"]:
        """The crops of an original tracklet."""
        return np.arange(self.store.offsets[tracklet], self.store.offsets[tracklet + 1])

    def title(self, tracklet: int) -> str:
        """Number, video, time and length of a tracklet."""
        rows = self.store.tracklets
        start, end = float(rows["start"][tracklet]), float(rows["end"][tracklet])
        count = int(rows["crops"][tracklet])
        when = "" if math.isnan(start) else f" · {clock(start)}–{clock(end)}"
        return (
            f"tracklet {tracklet} · {self.video_names[int(rows['video'][tracklet])]}{when} · {counted(count, 'crop')}"
        )

    def people(self, most: int, strips: int, crops: int) -> list[Person]:
        """Identities in several videos, and of one video where those are fewer, sampled evenly by reach.

        Reach: number of videos, then cameras, tracklets, crops.
        """
        if self.found is None:
            return []
        order, videos = self._by_reach
        across, others = order[videos[order] > 1], order[videos[order] <= 1]
        chosen = [*_even(across, most), *_even(others, max(0, most - len(across)))]
        return [self._person(self.found, int(k), strips, crops) for k in chosen]

    @property
    def identities(self) -> int:
        """Number of identities with crops."""
        return len(self._by_reach[0])

    def overview(self, most: int) -> list[IdentityCard]:
        """Identities by reach, each by one crop."""
        if self.found is None or not most:
            return []
        mine, tracklet = self.found.assignment.crop_identity, self.found.assignment.tracklet
        order, videos = self._by_reach
        rows = np.argsort(mine, kind="stable")
        first = np.searchsorted(mine[rows], np.arange(len(videos) + 1))
        cards = []
        for k in order[:most].tolist():
            crops = rows[first[k] : first[k + 1]]
            image = self.store.image(int(crops[len(crops) // 2])) if self.store.has_images else None
            picture = Picture("" if image is None else data_uri(image, _SMALL), f"a crop of identity {k}")
            tracklets = len(np.unique(tracklet[crops]))
            facts = [counted(tracklets, "tracklet"), counted(int(videos[k]), "video")]
            sure = float(self._weakest[k])
            cards.append(IdentityCard(k, picture, facts, sure < DOUBTFUL or bool(self._unclear[k])))
        return cards

    @cached_property
    def _by_reach(self) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " i"]]:
        """Identities with crops, those of most videos, cameras, tracklets and crops first; videos of each by number."""
        mine = np.zeros(0, np.int64) if self.found is None else self.found.assignment.crop_identity
        tracklet = np.zeros(0, np.int64) if self.found is None else self.found.assignment.tracklet
        kept = mine >= 0
        sizes = np.bincount(mine[kept])
        reach = [
            _distinct(mine[kept], values[kept], len(sizes))
            for values in (self.store.crops["video"], self.store.camera, tracklet)
        ]
        order = np.lexsort([np.arange(len(sizes)), -sizes, -reach[2], -reach[1], -reach[0]])
        return order[sizes[order] > 0], reach[0]

    def discarded(self, most: int) -> list[Picture]:
        """Removed crops, those farthest from their tracklet first; without those rejected by review."""
        last = [
            (distance, crop)
            for crop, (_, _, target, distance) in self.moves.items()
            if target < 0 and not math.isnan(distance)
        ]
        return [
            self.crop(crop, mark="removed", caption=f"{distance:.2f}")
            for distance, crop in sorted(last, key=lambda item: (-item[0], item[1]))[:most]
        ]

    def wrong_merges(self, most: int, crops: int) -> list[Person]:
        """Identities with most crops of people other than their main one; needs true identities."""
        if self.found is None or not self.store.has_truth:
            return []
        mine = self.found.assignment.crop_identity
        return [
            self._mixture(
                f"Identity {k}: {counted(len(parts), 'true person')}", mine == k, self.truth, "true person", crops
            )
            for k, parts in _mixed(mine, self.truth)[:most]
        ]

    def wrong_splits(self, most: int, crops: int) -> list[Person]:
        """True people with most crops outside their main identity; needs true identities."""
        if self.found is None or not self.store.has_truth:
            return []
        mine = self.found.assignment.crop_identity
        return [
            self._mixture(
                f"True person {k}: {counted(len(parts), 'identity')}",
                (self.truth == k) & (mine >= 0),
                mine,
                "identity",
                crops,
            )
            for k, parts in _mixed(self.truth, mine)[:most]
        ]

    @cached_property
    def moves(self) -> dict[int, tuple[str, int, int, float]]:
        """Crop → stage, source, target and distance of its last move."""
        if self.found is None:
            return {}
        rows = self.found.moves
        return {
            int(crop): (str(stage), int(source), int(target), float(distance))
            for stage, crop, source, target, distance in zip(
                rows["stage"], rows["crop"], rows["source"], rows["target"], rows["distance"], strict=True
            )
        }

    @cached_property
    def _unclear(self) -> Bool[np.ndarray, " i"]:
        """Of each identity, whether it may not be a person, where people are in doubt."""
        mine = np.zeros(0, np.int64) if self.found is None else self.found.assignment.crop_identity
        unclear = unclear_identities(self.store, mine)
        return unclear & (self.run.detection is not None and self.run.detection.in_doubt)

    @cached_property
    def _weakest(self) -> Float[np.ndarray, " i"]:
        """The probability of the weakest link of each identity."""
        return weakest_links(self.found.assignment.identity, self.found.links) if self.found else np.zeros(0)

    def _person(self, found: Identities, identity: int, strips: int, crops: int) -> Person:
        """One identity with its links and its moved and removed crops."""
        mine = found.assignment.crop_identity == identity
        members = np.flatnonzero(found.assignment.identity == identity)
        usual = majority(self.truth[mine]) if self.store.has_truth else -1
        parents = self._parents(found, members)
        cameras: dict[str, list[Strip]] = {}
        videos = self.store.videos
        shown = sorted(
            members.tolist(),
            key=lambda t: (videos[int(self.store.tracklets["video"][t])].camera, t),
        )
        # Strips beyond the limit are omitted from the end.
        for t in shown[:strips]:
            camera = videos[int(self.store.tracklets["video"][t])].camera
            cameras.setdefault(camera, []).append(self._strip(found, t, crops, usual, parents.get(t)))
        video_count = len(np.unique(self.store.crops["video"][mine]))
        cams = len(np.unique(self.store.camera[mine]))
        facts = [
            counted(int(mine.sum()), "crop"),
            counted(len(members), "tracklet"),
            counted(video_count, "video"),
            counted(cams, "camera"),
        ]
        sure = float(self._weakest[identity])
        if not math.isnan(sure):
            facts.append(f"weakest link {sure:.0%} sure")
        elif looks := [distance for distance, _, _ in parents.values() if not math.isnan(distance)]:
            facts.append(f"weakest link {max(looks):.3f}")
        if self.store.has_truth:
            people = np.unique(self.truth[mine & (self.truth >= 0)])
            others = int((mine & (self.truth != usual)).sum())
            facts.append(
                "one true person"
                if len(people) == 1 and not others
                else f"{counted(others, 'crop')} of other true people"
                if len(people)
                else "no true person"
            )
        unclear = bool(self._unclear[identity])
        if unclear:
            facts.append("few crops, or not the shape of a person")
        return Person(f"Identity {identity}", facts, cameras, max(0, len(members) - strips), sure < DOUBTFUL or unclear)

    def _strip(
        self, found: Identities, tracklet: int, most: int, usual: int, link: tuple[float, int, str] | None
    ) -> Strip:
        now = found.assignment.tracklet
        own = np.flatnonzero(((self.origin == tracklet) & (now < 0)) | (now == tracklet))
        changed = (now[own] != tracklet) | (self.origin[own] != tracklet)
        special = _even(own[changed], min(most, max(1, most // 2)))
        plain = _even(own[~changed], most - len(special))
        pictures = []
        for crop in sorted({*special, *plain}):
            mark = "removed" if now[crop] < 0 else "moved" if self.origin[crop] != tracklet else ""
            distance = self.moves[crop][3] if mark and crop in self.moves else math.nan
            caption = "" if math.isnan(distance) else f"{distance:.2f}"
            pictures.append(self.crop(crop, mark=mark, caption=caption, wrong=usual not in (-1, self.truth[crop])))
        removed: dict[str, list[tuple[int, float]]] = {}
        moved: dict[str, list[tuple[int, float]]] = {}
        for crop in own[changed].tolist():
            stage, _, _, distance = self.moves.get(crop, ("", -1, -1, math.nan))
            how = self._stage(stage) if stage else "because it has no embedding"
            (removed if now[crop] < 0 else moved).setdefault(how, []).append((int(self.origin[crop]), distance))
        notes = [f"{counted(len(of), 'crop')} removed {how}{_range(d for _, d in of)}" for how, of in removed.items()]
        for how, of in moved.items():
            sources = ", ".join(map(str, dict.fromkeys(source for source, _ in of)))
            notes.append(f"{counted(len(of), 'crop')} moved here from {sources} {how}{_range(d for _, d in of)}")
        return Strip(self.title(tracklet), pictures, notes, link and (link[0], link[1], self._stage(link[2])))

    def _stage(self, name: str) -> str:
        return self.stages.get(name, name.replace("_", " "))

    def _joined(self, first: int, second: int, stage: str) -> str:
        """How a link joined two tracklets: by their videos, for a stage across videos joins those of one too."""
        if stage in _WITHOUT_DISTANCE:
            return _WITHOUT_DISTANCE[stage]
        video = self.store.tracklets["video"]
        return "within one video" if video[first] == video[second] else "across videos"

    def _parents(self, found: Identities, members: Int[np.ndarray, " t"]) -> dict[int, tuple[float, int, str]]:
        """The minimum spanning tree of an identity: tracklet → distance, parent tracklet, how they were joined."""
        rows = found.links
        inside = np.flatnonzero(np.isin(rows["first"], members) & np.isin(rows["second"], members))
        group = {int(t): int(t) for t in members}
        near: dict[int, list[tuple[int, int]]] = {}

        def root(t: int) -> int:
            while group[t] != t:
                t = group[t]
            return t

        # Kruskal's algorithm, then rooted at the first tracklet, so that each other tracklet has one link.
        for i in inside[np.argsort(rows["distance"][inside], kind="stable")].tolist():
            first, second = int(rows["first"][i]), int(rows["second"][i])
            if (a := root(first)) != (b := root(second)):
                group[max(a, b)] = min(a, b)
                near.setdefault(first, []).append((second, i))
                near.setdefault(second, []).append((first, i))
        out: dict[int, tuple[float, int, str]] = {}
        reached: set[int] = set()
        for start in sorted(near):
            open_ends = [] if start in reached else [start]
            reached.add(start)
            while open_ends:
                here = open_ends.pop()
                for there, i in near[here]:
                    if there not in reached:
                        reached.add(there)
                        open_ends.append(there)
                        out[there] = (
                            float(rows["distance"][i]),
                            here,
                            self._joined(here, there, str(rows["stage"][i])),
                        )
        return out

    def _mixture(
        self, title: str, rows: Bool[np.ndarray, " n"], part: Int[np.ndarray, " n"], word: str, crops: int
    ) -> Person:
        where = np.flatnonzero(rows)
        values, counts = np.unique(part[where], return_counts=True)
        strips = []
        for i in np.argsort(-counts, kind="stable")[:6]:
            mine = where[part[where] == values[i]]
            names = sorted({self.video_names[int(v)] for v in np.unique(self.store.crops["video"][mine])})
            name = f"{word} {values[i]}" if values[i] >= 0 else "no true person"
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            title_of = f"{name} · {counted(int(counts[i]), 'crop')} · {', '.join(names[:3])}{more}"
            strips.append(Strip(title_of, [self.crop(c) for c in _even(mine, crops)]))
        return Person(title, [counted(len(where), "crop")], {"": strips}, max(0, len(values) - 6))


def clock(seconds: int | float) -> str:
    """Minutes and seconds.

    >>> clock(83.4)
    '1:23'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _mixed(group: Int[np.ndarray, " n"], part: Int[np.ndarray, " n"]) -> list[tuple[int, dict[int, int]]]:
    """Groups with crops in several parts, those with most crops outside their largest part first."""
    both = (group >= 0) & (part >= 0)
    parts: dict[int, dict[int, int]] = {}
    pairs, counts = np.unique(np.stack([group[both], part[both]]), axis=1, return_counts=True)
    for (g, p), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        parts.setdefault(g, {})[p] = count
    mixed = [(g, of) for g, of in parts.items() if len(of) > 1]
    return sorted(mixed, key=lambda item: (max(item[1].values()) - sum(item[1].values()), item[0]))


def _distinct(group: Int[np.ndarray, " n"], values: Int[np.ndarray, " n"], groups: int) -> Int[np.ndarray, " g"]:
    """Number of distinct values of each group."""
    pairs = np.unique(np.stack([group, values]), axis=1)
    return np.bincount(pairs[0], minlength=groups).astype(np.int64)


def _even(values: Int[np.ndarray, " n"], most: int) -> list[int]:
    """At most `most` of the values, evenly spaced, including first and last."""
    if len(values) > most:
        values = values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]
    return [int(value) for value in values]


def _range(distances: Iterable[float]) -> str:
    known = sorted(distance for distance in distances if not math.isnan(distance))
    if not known:
        return ""
    low, high = f"{known[0]:.2f}", f"{known[-1]:.2f}"
    return f" at {low}" if low == high else f" at {low}–{high}"
