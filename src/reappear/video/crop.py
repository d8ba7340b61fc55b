"""Selects the boxes of a tracklet by quality rules and crops them."""

from collections import Counter
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import Bool, Float, Int, UInt8

from reappear.core import (
    RISING,
    Count,
    Fraction,
    NotNegative,
    StorageError,
    Tracks,
    lengths_to_offsets,
    offsets_to_owner,
    settings,
)

from .overlap import area, intersection


@settings
class CropSettings:
    """Quality rules for boxes, and how crops are stored."""

    height: Annotated[int, "boxes less tall are left out, pixels", Interval(ge=0, le=16_384)] = 32
    aspect: Annotated[tuple[NotNegative, NotNegative], "height over width of a box, least and most", RISING] = (
        1.2,
        5.0,
    )
    border: Annotated[
        int, "boxes nearer to the edge of the frame are left out, pixels; -1 keeps them", Interval(ge=-1, le=16_384)
    ] = 2
    overlap: Annotated[Fraction, "boxes of which more than this fraction is covered by another are left out"] = 0.4
    max_crops: Annotated[Count, "crops of a tracklet at most, spread over its time"] = 8
    min_crops: Annotated[Count, "tracklets with fewer crops are left out"] = 2
    padding: Annotated[
        float, "added on each side, as a fraction of the box's width and height", Interval(ge=0, le=10)
    ] = 0.05
    max_height: Annotated[int, "crops taller than this are scaled down to it, pixels", Interval(ge=16, le=16_384)] = 384
    quality: Annotated[int, "JPEG quality", Interval(ge=1, le=100)] = 92


def choose_crops(
    tracks: Tracks,
    size: tuple[int, int] | Int[np.ndarray, "n 2"],
    rules: CropSettings,
) -> tuple[list[Int[np.ndarray, " _"]], dict[str, int]]:
    """The rows of `tracks` to keep, per kept tracklet, and the number of dropped boxes by reason.

    Args:
        tracks: The tracklets of one video.
        size: Width and height of its frames in pixels, or of the frame of each row of `tracks`.
        rules: Of quality, and how many crops a tracklet has: valid boxes are subsampled evenly.
    """
    sides = tracks.box[:, 2:] - tracks.box[:, :2]
    ratio = sides[:, 1] / np.maximum(sides[:, 0], 1e-6)
    margin = np.minimum(tracks.box[:, :2], np.asarray(size) - tracks.box[:, 2:]).min(axis=1, initial=np.inf)
    reasons = {
        "boxes that are too small": sides[:, 1] < rules.height,
        "boxes with an unusual aspect ratio": (ratio < rules.aspect[0]) | (ratio > rules.aspect[1]),
        "boxes cut by the edge of the frame": margin < rules.border
        if rules.border >= 0
        else np.zeros(len(ratio), bool),
        "boxes covered by another": covered(tracks.frame, tracks.box) > rules.overlap,
    }
    good = np.ones(len(tracks.frame), bool)
    dropped: Counter[str] = Counter()
    for reason, bad in reasons.items():
        dropped[reason] += int(np.sum(good & bad))
        good &= ~bad
    kept = []
    for rows in np.split(np.flatnonzero(good), _cuts(good, tracks.offsets)):
        if len(rows) < rules.min_crops:
            dropped["boxes of tracklets with too few"] += len(rows)
            continue
        chosen = rows[np.linspace(0, len(rows) - 1, min(rules.max_crops, len(rows))).round().astype(np.int64)]
        dropped["boxes beyond what a tracklet keeps"] += len(rows) - len(chosen)
        if len(chosen):
            kept.append(chosen)
    return kept, {reason: count for reason, count in dropped.items() if count}


def covered(frame: Int[np.ndarray, " n"], box: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """The largest fraction of each box that another box of the same frame covers."""
    out = np.zeros(len(frame))
    order = np.argsort(frame, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(frame[order])) + 1):
        if len(mine) > 1:
            shared = intersection(box[mine], box[mine])
            np.fill_diagonal(shared, 0)
            out[mine] = shared.max(axis=1) / np.maximum(area(box[mine]), 1e-6)
    return out


def cut(
    image: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, " 4"], *, padding: float, max_height: int
) -> UInt8[np.ndarray, "_h _w 3"]:
    """The padded box, clamped to the frame, at most `max_height` pixels high. It has at least one pixel."""
    pad = padding * (box[2:] - box[:2])
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(box[:2] - pad), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(box[2:] + pad), (left + 1, top + 1), (width, height)).astype(int)
    crop = image[top:bottom, left:right]
    if len(crop) > max_height:
        narrow = max(1, round(crop.shape[1] * max_height / len(crop)))
        crop = cv2.resize(crop, (narrow, max_height), interpolation=cv2.INTER_AREA)
    return np.asarray(crop)


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> bytes:
    """An RGB image as JPEG."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise StorageError(f"OpenCV could not encode an image of {image.shape[1]} x {image.shape[0]} pixels as JPEG")
    return bytes(data)


def _cuts(good: Bool[np.ndarray, " n"], offsets: Int[np.ndarray, " _"]) -> Int[np.ndarray, " _"]:
    """Offsets of the tracklets among the valid rows."""
    owners = offsets_to_owner(offsets)[good]
    return lengths_to_offsets(np.bincount(owners, minlength=len(offsets) - 1))[1:-1]
