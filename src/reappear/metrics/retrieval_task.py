"""Who is asked for, who is there, and whom a protocol lets a query find."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import InputError, SettingsError, counted, generator

from .gallery import TIE, Block, Gallery, GalleryFactory
from .labels import label_numbers
from .same_images import RowsByKey, feature_keys

RankingProtocol = Literal["market", "cross-camera", "no-camera", "video", "cuhk03-single-gallery-shot"]

_ROWS = 4096

_NEAR = 0.01  # mean cosine distance of gallery rows: from here on, ties are a ten-thousandth of it
_LEAST_TIE = 1e-12  # as far apart as a network in float32 may put one image


@dataclass(frozen=True)
class RetrievalTask:
    """Queries and a gallery under a protocol, checked.

    Attributes:
        query: Features of any length.
        gallery: Features of any length; the caller's own array where it is float32.
        scale: What brings each gallery row to unit length.
        center: Mean of the unit gallery rows.
        query_ids: Who is asked for; -1 = junk.
        gallery_ids: Who is there; -1 = junk.
        query_cameras: -1 = unknown.
        gallery_cameras: -1 = unknown.
        query_images: Under "no-camera" a key of each image; the gallery rows with the same key are the same image, and
            the query does not look at them. -1 = unlike any.
        gallery_images: Likewise.
        protocol: Its name.
        seed: Of galleries that the protocol draws.
        draw: Which of them this is.
    """

    query: Float[np.ndarray, "q d"]
    gallery: Float[np.ndarray, "g d"]
    scale: Float[np.ndarray, " g"]
    center: Float[np.ndarray, " d"]
    query_ids: Int[np.ndarray, " q"]
    gallery_ids: Int[np.ndarray, " g"]
    query_cameras: Int[np.ndarray, " q"]
    gallery_cameras: Int[np.ndarray, " g"]
    query_images: Int[np.ndarray, " q"]
    gallery_images: Int[np.ndarray, " g"]
    protocol: RankingProtocol
    seed: int = 0
    draw: int = 0

    @classmethod
    def of(
        cls,
        query: np.ndarray,
        gallery: np.ndarray,
        *,
        query_ids: np.ndarray,
        gallery_ids: np.ndarray,
        query_cameras: np.ndarray | None = None,
        gallery_cameras: np.ndarray | None = None,
        query_images: np.ndarray | None = None,
        gallery_images: np.ndarray | None = None,
        protocol: RankingProtocol | None = None,
        gallery_includes_query: bool = True,
        seed: int = 0,
    ) -> "RetrievalTask":
        """Checks what is given; see `metrics.rank` for the arguments.

        Raises:
            InputError: The arrays do not fit together; the message states what is wrong.
        """
        if protocol is None:
            protocol = "no-camera" if query_cameras is None or gallery_cameras is None else "market"
        if protocol not in get_args(RankingProtocol):
            raise SettingsError(f"protocol: must be one of {', '.join(get_args(RankingProtocol))}, got {protocol!r}")
        if protocol != "no-camera" and (query_cameras is None or gallery_cameras is None):
            raise InputError(
                f"the protocol {protocol} needs query_cameras and gallery_cameras; give both, or choose no-camera"
            )
        query, gallery = _features(query, "query"), _features(gallery, "gallery")
        if query.shape[1] != gallery.shape[1]:
            raise InputError(
                f"query features have {counted(query.shape[1], 'value')} and gallery features {gallery.shape[1]}; "
                f"embed both with one model"
            )
        rows = len(query), len(gallery)
        ids = label_numbers(query_ids, gallery_ids, rows, "ids")
        cameras = label_numbers(query_cameras, gallery_cameras, rows, "cameras")
        images = label_numbers(None, None, rows, "images")
        if protocol == "no-camera":
            images = label_numbers(query_images, gallery_images, rows, "images")
            if any((keys < 0).any() for keys in images):
                asked, there = feature_keys(query, gallery, *ids)
                images = np.where(images[0] < 0, asked, images[0]), np.where(images[1] < 0, there, images[1])
        seen = np.union1d(*cameras)
        if protocol != "no-camera" and len(seen) == 1:
            raise InputError(
                f"all images are of camera {seen[0]}, and the protocol {protocol} looks for people in other "
                f"cameras; give each image its own camera's number, or choose no-camera"
            )
        if protocol == "video" and gallery_includes_query:
            gallery = np.concatenate([gallery, query])
            ids = ids[0], np.concatenate([ids[1], ids[0]])
            cameras = cameras[0], np.concatenate([cameras[1], cameras[0]])
            images = images[0], np.concatenate([images[1], images[0]])
        _inverse_norms(query, "query")
        scale = _inverse_norms(gallery, "gallery")
        center = scale @ gallery / np.float32(len(gallery))
        return cls(query, gallery, scale, center, *ids, *cameras, *images, protocol, seed)

    def only(self, queries: Int[np.ndarray, " s"]) -> "RetrievalTask":
        """Some of the queries."""
        return replace(
            self,
            query=self.query[queries],
            query_ids=self.query_ids[queries],
            query_cameras=self.query_cameras[queries],
            query_images=self.query_images[queries],
        )

    def build(self, backend: GalleryFactory) -> Gallery:
        """The gallery on a backend, to be compared with `blocks`."""
        if self._nearly_coincides:
            return backend(self._centered, np.ones_like(self.scale))
        return backend(self.gallery, self.scale)

    @property
    def _nearly_coincides(self) -> bool:
        """Whether the mean cosine distance of gallery rows is too small for cosines in float32."""
        return bool(1 - self.center @ self.center < _NEAR)

    @cached_property
    def _centered(self) -> Float[np.ndarray, "g _"]:
        """Unit gallery rows minus the center, and minus half the square of that in the last column."""
        rows = _from_center(self.gallery, self.center)
        rows[:, -1] = -_half_squares(rows)
        return rows

    @property
    def own_images(self) -> int:
        """How many queries are in the gallery too, so that they do not look at all of it."""
        return int(np.isin(self.query_images[self.query_images >= 0], self.gallery_images).sum())

    def blocks(self, memory_mb: int) -> Iterator[Block]:
        """All queries, those that look at the same cameras together, in blocks that fit into `memory_mb`.

        With c the center, the cosine of unit rows q and g is 1 - |q - g|²/2, and this is (q - c)(g - c) - |g - c|²/2
        but for a constant of each query: what is rounded is as small as their distances.
        """
        if memory_mb < 1:
            raise SettingsError(f"memory_mb: must be 1 or more, got {memory_mb}")
        people, images = RowsByKey(self.gallery_ids), RowsByKey(self.gallery_images)
        step = max(1, (memory_mb << 20) // (8 * max(1, len(self.gallery))))
        for numbers, blind in self._groups():
            for first in range(0, len(numbers), step):
                number = numbers[first : first + step]
                same, own = people.find(self.query_ids[number]), images.find(self.query_images[number])
                # The query's own image under another person's number is passed over as well.
                foreign = (own >= 0) & (self.gallery_ids[own] != self.query_ids[number][:, None])
                same = np.concatenate([same, np.where(foreign, own, -1)], axis=1)
                rows = self.query[number]
                if self._nearly_coincides:
                    vectors = _from_center(rows, self.center)
                    offset = _half_squares(vectors)
                    vectors[:, -1] = 1
                    half = -self._centered[same, -1]
                    largest = 2 * np.sqrt(half * np.maximum(half, offset[:, None]))  # of the products
                    tie = np.maximum(TIE * largest, np.float32(_LEAST_TIE))
                else:
                    vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
                    offset, tie = np.ones(len(rows), np.float32), np.full(same.shape, TIE, np.float32)
                findable = (same >= 0) & ~blind[same] & ~(same[:, :, None] == own[:, None]).any(axis=2)
                if self.protocol in ("market", "video"):
                    findable &= self.gallery_cameras[same] != self.query_cameras[number][:, None]
                yield Block(number, vectors, offset, np.flatnonzero(blind), same, findable, tie)

    def _groups(self) -> Iterator[tuple[Int[np.ndarray, " q"], Bool[np.ndarray, " g"]]]:
        """Queries that look at the same rows, and which rows they do not look at."""
        junk = self.gallery_ids < 0
        apart = self.protocol in ("cross-camera", "cuhk03-single-gallery-shot")
        if not apart:
            yield np.arange(len(self.query)), junk
            return
        for camera in np.unique(self.query_cameras):
            blind = junk | (self.gallery_cameras == camera)
            if self.protocol == "cuhk03-single-gallery-shot":
                blind = self._all_but_one_of_each(blind, int(camera))
            yield np.flatnonzero(self.query_cameras == camera), blind

    def _all_but_one_of_each(self, blind: Bool[np.ndarray, " g"], camera: int) -> Bool[np.ndarray, " g"]:
        shown = generator(self.seed, "single shot", self.draw, camera).permutation(np.flatnonzero(~blind))
        out = np.ones(len(blind), bool)
        out[shown[np.unique(self.gallery_ids[shown], return_index=True)[1]]] = False
        return out


def _features(rows: Any, name: str) -> Float[np.ndarray, "n d"]:
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise InputError(
            f"{name}: must be a matrix with one feature vector a row, got {rows.dtype} of shape {rows.shape}"
        )
    if not len(rows):
        raise InputError(f"the {name} is empty; an evaluation needs queries and a gallery")
    return np.asarray(rows, np.float32)


def _inverse_norms(rows: Float[np.ndarray, "n d"], name: str) -> Float[np.ndarray, " n"]:
    """1 / length of each row, in pieces so that no copy of the features is made."""
    norms = np.concatenate([np.linalg.norm(rows[i : i + _ROWS], axis=1) for i in range(0, len(rows), _ROWS)])
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        raise InputError(
            f"{name}: zero or not finite: {counted(len(bad), 'row')}, the first is {bad[0]}; remove them or embed again"
        )
    return np.asarray(1 / norms, np.float32)


def _from_center(rows: Float[np.ndarray, "n d"], center: Float[np.ndarray, " d"]) -> Float[np.ndarray, "n d+1"]:
    """Unit rows minus the center, taken in float64, and a column of zeros."""
    out = np.zeros((len(rows), rows.shape[1] + 1), np.float32)
    for first in range(0, len(rows), _ROWS):
        some = rows[first : first + _ROWS].astype(np.float64)
        out[first : first + _ROWS, :-1] = some / np.linalg.norm(some, axis=1, keepdims=True) - center
    return out


def _half_squares(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Half the squared length of each row."""
    return np.asarray(np.einsum("nd,nd->n", rows, rows) / 2, np.float32)
