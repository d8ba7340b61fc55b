"""Signs that what a detector found in videos are not people."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.store import CropStore
from reappear.video.detectors.auto import SUGGESTED

from .record import Record

_ENOUGH = 20  # crops from which shares mean something
_CUT = 0.3  # share of boxes at the edge of the frame; corridor full of walls and limbs 0.37, people 0.04 to 0.19
_SPREAD = 2.5  # ratio of the 90 % and the 10 % quantile of height over width; people 1.5 to 2.1
_SHORT = 1 / 3  # share of tracklets of one or two crops; people 0 to 0.12
_SHAPE = (1.2, 4.5)  # height over width of somebody upright
_FEW = 2  # crops


@dataclass(frozen=True)
class Detection:
    """How well what was detected can be trusted to be people.

    Attributes:
        detector: Its kind.
        moving_regions: Whether it finds whatever moves.
        videos_without_people: Videos in which nobody was found.
        signs: What speaks against people, a phrase each.
        cure: What to do about it.
    """

    detector: str
    moving_regions: bool
    videos_without_people: int
    signs: tuple[str, ...]
    cure: str

    @property
    def in_doubt(self) -> bool:
        """Whether identities should be called people at most."""
        return self.moving_regions or bool(self.signs)

    def warning(self) -> str:
        """One line; "" where there is nothing to say."""
        found = ["what is found are moving regions, not people"] if self.moving_regions else []
        if self.signs:
            found.append(f"what is found may not be people: {', '.join(self.signs)}")
        return f"{'; '.join(found)}. {self.cure}" if found else ""


def examine_detection(crops: CropStore, record: Record) -> Detection | None:
    """What the crops of videos and the record of their ingest say; None for other input.

    Without ground truth alone are moving regions in doubt: with it, it is known what they are.
    """
    detector = record.settings.get("detector")
    if not isinstance(detector, dict) or "frames" not in record.counts or not len(crops):
        return None
    kind = str(detector.get("kind"))
    cures = {
        "motion": f"To find people: reappear weights download {SUGGESTED}, then the same command with another --out",
        "yolox": "Raise --detector.score, or take larger weights",
    }
    return Detection(
        kind,
        kind == "motion" and not crops.has_truth,
        int(record.counts.get("videos without people", 0)),
        tuple(_signs(crops, record)) if len(crops) >= _ENOUGH and not crops.has_truth else (),
        cures.get(kind, "Check the boxes"),
    )


def _signs(crops: CropStore, record: Record) -> list[str]:
    signs = []
    cut = record.dropped.get("boxes cut by the edge of the frame", 0) / max(record.counts.get("detections", 0), 1)
    if cut > _CUT:
        signs.append(f"{cut:.0%} of the boxes are cut by the edge of the frame")
    low, high = np.quantile(_shape(crops), (0.1, 0.9))
    if high > _SPREAD * low:
        signs.append(f"boxes have all shapes (height over width {low:.1f} to {high:.1f})")
    short = float(np.mean(np.diff(crops.offsets) <= _FEW))
    if short > _SHORT:
        signs.append(f"{short:.0%} of the tracklets have one or two crops")
    return signs


def unclear_identities(crops: CropStore, crop_identity: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " k"]:
    """Identities of one or two crops, or whose boxes have not the shape of somebody upright; by number."""
    shape, unclear = _shape(crops), np.zeros(int(crop_identity.max(initial=-1)) + 1, bool)
    order = np.argsort(crop_identity, kind="stable")
    order = order[crop_identity[order] >= 0]
    names, first, counts = np.unique(crop_identity[order], return_index=True, return_counts=True)
    for name, begin, count in zip(names.tolist(), first.tolist(), counts.tolist(), strict=True):
        usual = float(np.median(shape[order[begin : begin + count]]))
        unclear[name] = count <= _FEW or not _SHAPE[0] <= usual <= _SHAPE[1]
    return unclear


def _shape(crops: CropStore) -> Float[np.ndarray, " n"]:
    """Height over width of each box."""
    columns = crops.crops
    width = np.maximum(np.asarray(columns["right"] - columns["left"], np.float64), 1e-6)
    return np.asarray((columns["bottom"] - columns["top"]) / width, np.float64)
