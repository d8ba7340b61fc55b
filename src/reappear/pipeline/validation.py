"""Validation set: held-out people that a model is scored on during training."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int, UInt8

from reappear.core import SILENT, ImageTable, InputError, Progress, Ranking, SettingsError, counted, generator
from reappear.data import Images, read
from reappear.models.clips import Compat, clip_positions
from reappear.models.preprocessing import Preprocessing
from reappear.store import CropStore, FileHashes
from reappear.train.samplers import Tracklets

from .contents import hash_images, hash_value
from .readable import leave_out

if TYPE_CHECKING:
    from reappear.models import Embedder


@dataclass(frozen=True)
class Validation:
    """Queries and gallery, decoded and resized once, for embedders of this image size; scored across cameras.

    Attributes:
        table: Labels of the images or clips, of the splits "query" and "gallery".
        pixels: Images in RGB, or clips of them.
        unreadable: Image → why it is left out.
    """

    table: ImageTable
    pixels: UInt8[np.ndarray, "n *t h w 3"]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: Images, preprocessing: Preprocessing) -> "Validation":
        """Decodes and resizes the images of a table with queries and a gallery.

        Raises:
            InputError: One cannot be read or decoded.
        """
        pixels = np.empty((len(images), preprocessing.height, preprocessing.width, 3), np.uint8)
        for row, slot in enumerate(pixels):
            slot[:] = preprocessing.resize([images[row]])[0]
        return cls(images.table, pixels)

    @classmethod
    def of_tracklets(
        cls, images: Images, preprocessing: Preprocessing, *, frames: int, compat: Compat = "fixed"
    ) -> "Validation":
        """A clip of each tracklet; the first of each person in each camera is a query, and all are the gallery.

        Args:
            images: With the tracklet of each; see `Tracklets`.
            preprocessing: Image size.
            frames: Of a clip, at equal distances.
            compat: See `clip_positions`.

        Raises:
            InputError: An image has no tracklet, or cannot be decoded.
        """
        found = Tracklets(images.table)
        position = clip_positions(found.lengths, np.zeros(frames), compat)
        rows = found.order[found.begins[:, None] + position]
        table = across_cameras(replace(images.table.select(found.first), sequence=np.arange(len(found))))
        pixels = np.empty((len(table), frames, preprocessing.height, preprocessing.width, 3), np.uint8)
        for clip, slot in zip(rows[table.sequence], pixels, strict=True):
            slot[:] = preprocessing.resize([images[row] for row in clip.tolist()])
        return cls(table, pixels)

    @classmethod
    def of_folder(cls, root: Path, preprocessing: Preprocessing, *, progress: Progress = SILENT) -> "Validation":
        """A folder in Market-1501 layout, see `validation_table`, without images that cannot be decoded.

        Raises:
            InputError: No query has a match among the others.
        """
        images = Images(validation_table(root), remedy="remove it from the validation set")
        failed = images.unreadable(range(len(images)), progress=progress)
        images, unreadable = leave_out(images, failed, progress=progress)
        _require_match(images.table, root)
        return replace(cls.of(images, preprocessing), unreadable=unreadable)

    @staticmethod
    def hash_folder(root: Path, hashes: FileHashes) -> str:
        """The hash of the images that `of_folder` reads, and of their labels."""
        table = validation_table(root)
        return hash_value([hash_images(table, hashes), table], root=root)

    def score(self, embedder: "Embedder") -> float:
        """MAP of an embedder, in [0, 1]."""
        return self.rank(embedder).mean_ap

    def scores(self, embedder: "Embedder") -> tuple[float, float]:
        """MAP and rank 1 of an embedder, in [0, 1]."""
        ranking = self.rank(embedder)
        return ranking.mean_ap, float(ranking.cmc[0])

    def rank(self, embedder: "Embedder") -> Ranking:
        """The gallery ranked for each query by an embedder."""
        from reappear.metrics import rank

        table, pixels = self.table, list(self.pixels)
        vectors = embedder(pixels) if self.pixels.ndim == 4 else embedder.tracklets(pixels)
        query, gallery = (np.flatnonzero(table.split == part) for part in ("query", "gallery"))
        return rank(
            vectors[query],
            vectors[gallery],
            query_ids=table.identity[query],
            gallery_ids=table.identity[gallery],
            query_cameras=table.camera[query],
            gallery_cameras=table.camera[gallery],
        )


def validation_table(root: Path) -> ImageTable:
    """The queries and the gallery of a folder in Market-1501 layout. No image is opened.

    Raises:
        InputError: It is no such folder, or no query has a match in another camera.
    """
    table = read("market1501", root)
    table = table.select(table.split != "train")
    _require_match(table, root)
    return table


def _require_match(table: ImageTable, root: Path) -> None:
    query, gallery = table.where("query"), table.where("gallery")
    queries = zip(query.identity.tolist(), query.camera.tolist(), strict=True)
    if not any(np.any((gallery.identity == person) & (gallery.camera != camera)) for person, camera in queries):
        raise InputError(
            f"validation: {root} has {counted(len(query), 'query')} and {counted(len(gallery), 'image')} in its "
            "gallery, and no query with a match in another camera; "
            "give a folder in Market-1501 layout with query/ and bounding_box_test/"
        )


def validation_crops(crops: CropStore, table: ImageTable) -> ImageTable:
    """Queries and gallery of held-out crops by `across_cameras`: people as in `held_out`, and the video as camera."""
    return across_cameras(replace(table, identity=_people(crops, table), camera=_videos(crops, table), cameras=()))


def held_out(crops: CropStore, table: ImageTable, *, share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Mask of the crops held out for validation: those of a share of the people, drawn by the seed.

    People are those of the ground truth where the footage has it, else those of the labels; only people in two videos
    or more are held out.

    Raises:
        SettingsError: The share is out of range, or fewer than two people are in two videos.
    """
    return hold_out_people(_people(crops, table), _videos(crops, table), share=share, seed=seed, cameras="videos")


def hold_out_people(
    identity: Int[np.ndarray, " n"],
    camera: Int[np.ndarray, " n"],
    *,
    share: float,
    seed: int,
    cameras: str = "cameras",
) -> Bool[np.ndarray, " n"]:
    """Mask of the images of a share of the people, drawn by the seed from those in two cameras or more.

    Args:
        identity: Of each image; -1 = none.
        camera: Of each image.
        share: Of all people.
        seed: Of the draw.
        cameras: What cameras are called in messages.

    Raises:
        SettingsError: The share is out of range, or fewer than two people are in two cameras.
    """
    if not 0 < share < 1:
        raise SettingsError(f"validation_share: must lie in 0..1, less than 1, got {share}")
    pairs = np.unique(np.stack([identity, camera]), axis=1)[0]
    seen, number = np.unique(pairs[pairs >= 0], return_counts=True)
    eligible = seen[number >= 2]
    if len(eligible) < 2:
        raise SettingsError(
            f"validation_share: fewer than two people are in two or more {cameras}, so no query would have a match; "
            "give --validation a folder, or --validation-share 0"
        )
    count = min(len(eligible) - 1, max(1, round(share * len(seen))))
    chosen = generator(seed, "probe").choice(eligible, count, replace=False)
    return np.isin(identity, chosen)


def across_cameras(table: ImageTable) -> ImageTable:
    """Queries and gallery: the first image of each person in each camera is a query, and all are the gallery."""
    first = np.unique(np.stack([table.identity, table.camera]), axis=1, return_index=True)[1]
    rows = np.concatenate([np.sort(first), np.arange(len(table))])
    return replace(table.select(rows), split=np.repeat(["query", "gallery"], [len(first), len(table)]))


def _people(crops: CropStore, table: ImageTable) -> Int[np.ndarray, " n"]:
    """The ground truth where the footage has it, else the labels."""
    truth = np.asarray(crops.crops["truth"][table.path], np.int64)
    return truth if np.any(truth >= 0) else table.identity


def _videos(crops: CropStore, table: ImageTable) -> Int[np.ndarray, " n"]:
    return np.asarray(crops.crops["video"][table.path], np.int64)
