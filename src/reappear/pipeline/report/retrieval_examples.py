"""Images and plots of one evaluation: ranked lists, hard negatives, distances, camera pairs, projection."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from markupsafe import Markup

from reappear.core import InputError, counted
from reappear.data import read_image
from reappear.store import read_npz

from .pictures import Picture, data_uri
from .plots import histogram, project, scatter, wheel

Tree = dict[str, Any]


@dataclass(frozen=True)
class RankedList:
    """A query with the top of its ranked gallery.

    Attributes:
        place: Rank of the query by average precision, best first, from 1.
        average_precision: In [0, 1].
        first_hit: Rank of the first match, from 1; a mean over random galleries.
        query: The query image.
        gallery: Ranked gallery images: "hit", "miss", or "miss hard": nearer than the first match.
    """

    place: int
    average_precision: float
    first_hit: float
    query: Picture
    gallery: list[Picture]


@dataclass(frozen=True)
class LookAlike:
    """A query and its hard negative: an impostor nearer than the first match."""

    query: Picture
    impostor: Picture
    right: Picture | None
    first_hit: float


@dataclass(frozen=True)
class Pair:
    """One cell of the table of camera pairs."""

    queries: int
    first_right: float | None
    mean_ap: float | None


class RetrievalExamples:
    """Images and plots of one evaluation.

    Args:
        folder: Folder of the evaluation.
        scores: Contents of its scores.json.
        height: Height of thumbnails, px.
    """

    def __init__(self, folder: Path, scores: Tree, *, height: int) -> None:
        self.folder, self.scores, self.height = folder, scores, height

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        path = self.folder / "ranking.npz"
        columns = read_npz(path)
        needed = {"query_path", "gallery_path", "top", "hit", "distance", "ap", "first_hit", "shown_ids"}
        if lacking := sorted(needed - columns.keys()):
            raise InputError(f"{path} lacks {', '.join(lacking)}; remove {self.folder} and evaluate again")
        return columns

    @cached_property
    def _order(self) -> Int[np.ndarray, " q"]:
        """Valid queries by average precision, best first."""
        ap = np.asarray(self._columns["ap"], float)
        order = np.flatnonzero(np.isfinite(ap))
        return order[np.argsort(-ap[order], kind="stable")]

    @property
    def has_pictures(self) -> bool:
        """Whether paths of images are known."""
        return bool((self._columns["query_path"] != "").any())

    def ranked(self, each: int) -> list[tuple[str, list[RankedList]]]:
        """Ranked lists around the upper tenth of average precision, around its median, and the worst."""
        free = list(range(len(self._order)))
        out = []
        for title, at in (("Good", 0.1), ("Typical", 0.5), ("Worst", 1.0)):
            middle = at * (len(self._order) - 1)
            near = sorted(sorted(free, key=lambda place: (abs(place - middle), place))[:each])
            free = [place for place in free if place not in near]
            if near and self.has_pictures:
                out.append((title, [self._list(place) for place in near]))
        return out

    def worst(self, most: int) -> list[RankedList]:
        """The queries with the lowest average precision, worst first."""
        if not self.has_pictures:
            return []
        return [self._list(place) for place in range(len(self._order) - 1, -1, -1)[:most]]

    def look_alikes(self, most: int) -> list[LookAlike]:
        """The nearest impostors that rank before the first match: hard negatives."""
        columns = self._columns
        if not self.has_pictures or not columns["top"].shape[1]:
            return []
        wrong = np.isfinite(columns["ap"]) & (columns["top"][:, 0] >= 0) & ~columns["hit"][:, 0]
        queries = np.flatnonzero(wrong)
        queries = queries[np.argsort(columns["distance"][queries, 0], kind="stable")][:most]
        return [self._look_alike(int(query)) for query in queries]

    def distances(self, name: str) -> Markup | None:
        """Histogram of distances of matching and impostor pairs, with thresholds."""
        if not self.scores.get("verification") or "edges" not in self._columns:
            return None
        found = self.scores["verification"]
        thresholds = [point["threshold"] for point in found["points"] if point["threshold"] is not None]
        columns = self._columns
        svg = histogram(
            columns["edges"],
            {"matches": columns["same"], "impostors": columns["others"]},
            thresholds,
            name=f"distances-{name}",
            alt=f"distances of matching and impostor pairs, {self.scores['name']}",
        )
        return Markup(svg)  # noqa: S704 (drawn by matplotlib, its text escaped)

    def roc(self) -> tuple[list[float], list[float]] | None:
        """False- and true-match rates, ascending."""
        if "edges" not in self._columns or not self.scores.get("verification"):
            return None
        false, true = (np.cumsum(self._columns[key]) / self._columns[key].sum() for key in ("others", "same"))
        return false.tolist(), true.tolist()

    def cameras(self) -> list[tuple[int, list[Pair]]]:
        """Query camera → scores for each gallery camera; empty for a single camera pair."""
        found = self.scores.get("cameras")
        if not found or np.count_nonzero(found["queries"]) < 2:
            return []
        cells = zip(found["queries"], found["first_right"], found["mean_ap"], strict=True)
        rows = [[Pair(*cell) for cell in zip(*row, strict=True)] for row in cells]
        return [
            (camera, row) for camera, row in zip(found["cameras"], rows, strict=True) if any(p.queries for p in row)
        ]

    def plane(self, name: str, how: str, seed: int) -> tuple[Markup, list[tuple[str, str]]] | None:
        """A 2-D projection of the images of some people, and the labels of its colours."""
        columns = self._columns
        ids = columns["shown_ids"]
        if len(ids) < 3:
            return None
        people = np.unique(ids)
        vectors = columns["shown_vectors"]
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        svg = scatter(
            project(vectors, how=how, seed=seed),
            np.searchsorted(people, ids),
            columns["shown_cameras"],
            name=f"plane-{name}",
            alt=(
                f"{counted(len(ids), 'image')} of {counted(len(people), 'person')} in the plane, "
                f"embedded by {self.scores['model']}"
            ),
        )
        keys = [(wheel(i, len(people)), f"person {who}") for i, who in enumerate(people.tolist())]
        return Markup(svg), keys  # noqa: S704

    def _list(self, place: int) -> RankedList:
        query, columns = int(self._order[place]), self._columns
        first = float(columns["first_hit"][query])
        gallery = []
        for number, at in enumerate(columns["top"][query]):
            if at >= 0:
                hit = bool(columns["hit"][query, number])
                mark = "hit" if hit else "miss hard" if number + 1 < first else "miss"
                gallery.append(self._answer(query, number, mark))
        return RankedList(place + 1, float(columns["ap"][query]), first, self._query(query), gallery)

    def _look_alike(self, query: int) -> LookAlike:
        right = np.flatnonzero(self._columns["hit"][query])
        return LookAlike(
            self._query(query),
            self._answer(query, 0, "miss hard"),
            self._answer(query, int(right[0]), "hit") if len(right) else None,
            float(self._columns["first_hit"][query]),
        )

    def _query(self, query: int) -> Picture:
        return Picture(self._thumbnail(self._columns["query_path"][query]), "the query")

    def _answer(self, query: int, number: int, mark: str) -> Picture:
        columns = self._columns
        distance = float(columns["distance"][query, number])
        source = self._thumbnail(columns["gallery_path"][columns["top"][query, number]])
        who = "the same" if mark == "hit" else "another"
        return Picture(source, f"{who} person at distance {distance:.3f}", mark, f"{distance:.2f}")

    def _thumbnail(self, path: str) -> str:
        try:
            return data_uri(read_image(str(path)), self.height)
        except InputError:
            return ""
