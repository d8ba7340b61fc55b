"""Constraints on merges beside distance."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from reappear.core import TrackletSet

from .constraints import CannotLink, is_reliable, overlapping_pairs
from .guard import GUARD, MAX_DIAMETER, Guard, check_guard
from .review import ReviewConstraints
from .thresholds import OVERLAP


@dataclass(frozen=True)
class Rules:
    """Constraints on merges beside distance. None by default, as in the paper.

    Attributes:
        constraints: Whether simultaneous tracklets of one video cannot be linked, through chains too.
        overlap: Seconds that two tracklets must overlap to be simultaneous.
        review: Review decisions.
        guard: Against chains. "diameter": no two members of a group are farther apart than `max_diameter` times σ_drm.
            "cut": links whose ends share too few neighbours are ignored.
        max_diameter: Largest diameter of a group in σ_drm, 1 or more, for `guard="diameter"`.
    """

    constraints: bool = False
    overlap: float = OVERLAP
    review: ReviewConstraints | None = None
    guard: Guard = GUARD
    max_diameter: float = MAX_DIAMETER

    def __post_init__(self) -> None:
        check_guard(self.guard, self.max_diameter)

    @property
    def none(self) -> bool:
        """Whether there are no constraints, so that a minimum spanning forest of the links suffices."""
        return not self.constraints and self.review is None and self.guard == "none"

    def cannot_link(self, tracklets: TrackletSet, owner: Int[np.ndarray, " n"]) -> CannotLink:
        """Pairs of tracklets that must not be one person, where `owner` is the tracklet of each crop."""
        sure = is_reliable(tracklets, owner)
        overlap = self.overlap if self.constraints else None
        if self.review is not None:
            return self.review.cannot_link(tracklets, sure, overlap)
        seen = np.zeros((0, 2), np.int64) if overlap is None else overlapping_pairs(tracklets, sure, overlap)
        return CannotLink(seen, np.zeros(len(seen), bool))


NO_RULES = Rules()
