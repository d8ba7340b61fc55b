"""Validation set: held-out people that a model is scored on during training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int, UInt8

from reappear.core import ImageTable, InputError, Ranking, SettingsError, generator
from reappear.data import decode_image, read, read_image
from reappear.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from reappear.store import CropStore, FileHashes

from .contents import hash_images, hash_value

if TYPE_CHECKING:
    from reappear.models import Embedder

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Validation:
    """Query and gallery, decoded and resized once, for embedders of this image size; scored across cameras."""

    query: UInt8[np.ndarray, "q h w 3"]
    gallery: UInt8[np.ndarray, "g h w 3"]
    query_ids: Int[np.ndarray, " q"]
    gallery_ids: Int[np.ndarray, " g"]
    query_cameras: Int[np.ndarray, " q"]
    gallery_cameras: Int[np.ndarray, " g"]

    @classmethod
    def of_folder(cls, root: Path, preprocessing: Preprocessing) -> "Validation":
        """A folder in Market-1501 layout; see `validation_split`."""
        query, gallery = validation_split(root)

        def shown(paths: np.ndarray) -> UInt8[np.ndarray, "n h w 3"]:
            return _resized([(str(path), read_image(str(path))) for path in paths], preprocessing)

        return cls(
            shown(query.path),
            shown(gallery.path),
            query.identity,
            gallery.identity,
            query.camera,
            gallery.camera,
        )

    @staticmethod
    def hash_folder(root: Path, hashes: FileHashes) -> str:
        """The hash of the images that `of_folder` reads, and of their labels."""
        splits = validation_split(root)
        return hash_value([[hash_images(split, hashes), split] for split in splits], root=root)

    @classmethod
    def of_crops(
        cls,
        crops: CropStore,
        rows: Int[np.ndarray, " n"],
        identity: Int[np.ndarray, " n"],
        preprocessing: Preprocessing,
    ) -> "Validation":
        """Held-out crops: the first of each person in each video is a query for those of the other videos."""
        identity = _people(crops, rows, identity)
        video = np.asarray(crops.crops["video"], np.int64)[rows]
        is_query = np.zeros(len(rows), bool)
        is_query[np.unique(np.stack([identity, video]), axis=1, return_index=True)[1]] = True
        pixels = _resized([(f"crop {row}", crops.image(int(row))) for row in rows], preprocessing)
        return cls(pixels[is_query], pixels, identity[is_query], identity, video[is_query], video)

    def score(self, embedder: "Embedder") -> float:
        """MAP of an embedder, in [0, 1]."""
        return self.rank(embedder).mean_ap

    def rank(self, embedder: "Embedder") -> Ranking:
        """The gallery ranked for each query by an embedder."""
        from reappear.metrics import rank

        return rank(
            embedder(list(self.query)),
            embedder(list(self.gallery)),
            query_ids=self.query_ids,
            gallery_ids=self.gallery_ids,
            query_cameras=self.query_cameras,
            gallery_cameras=self.gallery_cameras,
        )


def validation_split(root: Path) -> tuple[ImageTable, ImageTable]:
    """The queries and the gallery of a folder in Market-1501 layout. No image is opened.

    Raises:
        InputError: It is no such folder, or no query has a match in another camera.
    """
    table = read("market1501", root)
    query, gallery = table.where("query"), table.where("gallery")
    queries = zip(query.identity.tolist(), query.camera.tolist(), strict=True)
    if not any(np.any((gallery.identity == person) & (gallery.camera != camera)) for person, camera in queries):
        raise InputError(
            f"validation: {root} has {len(query):,} queries and {len(gallery):,} images in its gallery, and no query "
            "with a match in another camera; give a folder in Market-1501 layout with query/ and bounding_box_test/"
        )
    return query, gallery


def held_out(
    crops: CropStore, rows: Int[np.ndarray, " n"], identity: Int[np.ndarray, " n"], *, share: float, seed: int
) -> Bool[np.ndarray, " n"]:
    """Mask of the crops held out for validation: those of a share of the people, drawn by the seed.

    People are those of the ground truth where the footage has it, else those of the labels; only people in two videos
    or more are held out.

    Raises:
        SettingsError: The share is out of range, or fewer than two people are in two videos.
    """
    if not 0 < share < 1:
        raise SettingsError(f"validation_share: must lie in 0..1, less than 1, got {share}")
    people = _people(crops, rows, identity)
    video = np.asarray(crops.crops["video"], np.int64)[rows]
    pairs = np.unique(np.stack([people, video]), axis=1)[0]
    seen, videos = np.unique(pairs[pairs >= 0], return_counts=True)
    eligible = seen[videos >= 2]
    if len(eligible) < 2:
        raise SettingsError(
            "validation_share: fewer than two people are in two or more videos, so no query would have a match; "
            "give --validation a folder"
        )
    count = min(len(eligible) - 1, max(1, round(share * len(seen))))
    chosen = generator(seed, "probe").choice(eligible, count, replace=False)
    return np.isin(people, chosen)


def _people(crops: CropStore, rows: Int[np.ndarray, " n"], identity: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The ground truth where the footage has it, else the labels."""
    truth = np.asarray(crops.crops["truth"], np.int64)[rows] if "truth" in crops.crops else identity
    return truth if np.any(truth >= 0) else identity


def _resized(images: Sequence[tuple[str, bytes]], preprocessing: Preprocessing) -> UInt8[np.ndarray, "n h w 3"]:
    out = np.empty((len(images), preprocessing.height, preprocessing.width, 3), np.uint8)
    for slot, (name, data) in zip(out, images, strict=True):
        try:
            slot[:] = preprocessing.resize([decode_image(data)])[0]
        except InputError as error:
            raise InputError(f"{name} is not a readable image: {error}; remove it from the validation set") from error
    return out
