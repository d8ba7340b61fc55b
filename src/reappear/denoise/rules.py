from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from reappear.core import TrackletSet

from .constraints import Apart, overlapping_pairs, vouching
from .guard import GUARD, SPREAD, Guard, check_guard
from .review import Verdicts
from .steps import OVERLAP


@dataclass(frozen=True)
class Rules:
    """What speaks against a join beside distance. By default nothing does, as in the paper.

    Attributes:
        constraints: Whether people seen at the same time are kept apart, through chains too.
        overlap: Seconds that two tracklets must share in one video to be two people.
        verdicts: What was decided in a review.
        guard: See `guard.py`.
        spread: Largest diameter of a group in σ_drm, 1 or more, for `guard="diameter"`.
    """

    constraints: bool = False
    overlap: float = OVERLAP
    verdicts: Verdicts | None = None
    guard: Guard = GUARD
    spread: float = SPREAD

    def __post_init__(self) -> None:
        check_guard(self.guard, self.spread)

    @property
    def none(self) -> bool:
        """Whether nothing does, so that the shortest links that hold each component together tell all."""
        return not self.constraints and self.verdicts is None and self.guard == "none"

    def apart(self, tracklets: TrackletSet, owner: Int[np.ndarray, " n"]) -> Apart:
        """Pairs of tracklets that must not be one person, where `owner` is the tracklet of each crop."""
        sure = vouching(tracklets, owner)
        overlap = self.overlap if self.constraints else None
        if self.verdicts is not None:
            return self.verdicts.apart(tracklets, sure, overlap)
        seen = np.zeros((0, 2), np.int64) if overlap is None else overlapping_pairs(tracklets, sure, overlap)
        return Apart(seen, np.zeros(len(seen), bool))
