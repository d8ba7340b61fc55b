"""Which distance means the same person? Pairs instead of ranked lists: ROC, TAR at FAR, thresholds."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from reappear.core import InputError, SettingsError

from .bootstrap import draw_people
from .gallery import GalleryFactory, NumpyGallery
from .retrieval_task import RetrievalTask

_BINS = 4096
_LOOKED_AT = 256


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what it does.

    Attributes:
        wanted: The false-match rate that was asked for.
        threshold: Cosine distance below which a pair passes for one person; None where there are too few
            impostor pairs for this rate.
        false_match_rate: Share of impostor pairs that pass (FAR, FMR).
        true_match_rate: Share of pairs of one person that pass (TAR, 1 - FNMR).
        threshold_interval: 95 % of it over people, drawn anew.
        true_match_interval: 95 % of the true-match rate over people, at that draw's own threshold.
    """

    wanted: float
    threshold: float | None
    false_match_rate: float | None
    true_match_rate: float | None
    threshold_interval: tuple[float, float] | None
    true_match_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Verification:
    """Distances of pairs that a protocol lets meet, counted in narrow bins.

    Attributes:
        edges: Distances between the bins, rising from 0; the last bin also holds what lies beyond it.
        people: Who is asked for, in rising order.
        matches: Pairs of one person, for each person asked for.
        others: Pairs of impostors, for each person asked for.
    """

    edges: Float[np.ndarray, " _"]
    people: Int[np.ndarray, " p"]
    matches: Int[np.ndarray, "p bins"]
    others: Int[np.ndarray, "p bins"]

    @cached_property
    def false_match_rate(self) -> Float[np.ndarray, " _"]:
        """At each edge: share of impostor pairs nearer than it."""
        return _share_below(self.others.sum(axis=0))

    @cached_property
    def true_match_rate(self) -> Float[np.ndarray, " _"]:
        """At each edge: share of pairs of one person nearer than it."""
        return _share_below(self.matches.sum(axis=0))

    @property
    def area(self) -> float:
        """Under the ROC: how often a pair of one person is nearer than an impostor pair; half for a tie."""
        return float(np.trapezoid(self.true_match_rate, self.false_match_rate))

    @property
    def equal_error_rate(self) -> float:
        """Where as many impostors pass as matches fail, half-way between the two edges around it."""
        gap = self.false_match_rate - (1 - self.true_match_rate)
        at = int(np.argmin(np.abs(gap)))
        return float((self.false_match_rate[at] + 1 - self.true_match_rate[at]) / 2)

    def at(self, wanted: float, *, draws: int = 1000, seed: int = 0) -> OperatingPoint:
        """The loosest threshold that lets at most the share `wanted` of impostor pairs pass.

        Intervals are percentiles over people drawn anew with replacement, since pairs of one person hang together.

        Args:
            wanted: False-match rate, above 0 and below 1.
            draws: How many times people are drawn.
            seed: Of the draws.
        """
        if not 0 < wanted < 1:
            raise SettingsError(f"false-match rate: must lie between 0 and 1, got {wanted}")
        if wanted * self.others.sum() < 1:
            return OperatingPoint(wanted, None, None, None, None, None)
        edge = int(_loosest(self.false_match_rate, wanted))
        weight = draw_people(len(self.people), draws, seed)
        false, true = _running(weight @ self.others), _running(weight @ self.matches)
        at = np.array([_loosest(rates, wanted) for rates in false / false[:, -1:]])
        passed = true[np.arange(draws), at] / np.maximum(true[:, -1], 1)
        return OperatingPoint(
            wanted,
            float(self.edges[edge]),
            float(self.false_match_rate[edge]),
            float(self.true_match_rate[edge]),
            _middle(self.edges[at]),
            _middle(passed),
        )


def verify(task: RetrievalTask, *, memory_mb: int = 256, backend: GalleryFactory = NumpyGallery) -> Verification:
    """Counts the distances of all pairs of queries and gallery images that the protocol lets meet.

    The histogram resolves distances to 1/4096 of the largest among 256 queries spread over all.

    Raises:
        InputError: No pair shows one person, or none shows two.
    """
    held = task.build(backend)
    some = np.unique(np.linspace(0, len(task.query_ids) - 1, _LOOKED_AT).astype(np.int64))
    upper = 0.0
    for block in task.only(some).blocks(memory_mb):
        counts = sum(held.histograms(block, _BINS, 2.0))
        upper = max(upper, 2.0 * (int(np.flatnonzero(np.any(counts, axis=0)).max(initial=0)) + 1) / _BINS)
    people, person = np.unique(task.query_ids, return_inverse=True)
    matches, others = (np.zeros((len(people), _BINS), np.int64) for _ in range(2))
    for block in task.blocks(memory_mb):
        for counts, more in zip((matches, others), held.histograms(block, _BINS, upper), strict=True):
            np.add.at(counts, person[block.number], more)
    asked = people >= 0
    found = Verification(np.linspace(0, upper, _BINS + 1), people[asked], matches[asked], others[asked])
    for what, counts in (("one person", found.matches), ("two people", found.others)):
        if not counts.sum():
            raise InputError(f"no pair of query and gallery shows {what}, so there is no threshold to choose")
    return found


def _running(counts: Float[np.ndarray, "n bins"]) -> Float[np.ndarray, "n bins+1"]:
    return np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1)], axis=1)


def _share_below(counts: Int[np.ndarray, " bins"]) -> Float[np.ndarray, " _"]:
    return np.concatenate([np.zeros(1), np.cumsum(counts) / counts.sum()])


def _loosest(rate: Float[np.ndarray, " _"], wanted: float) -> np.intp:
    return np.searchsorted(rate, wanted, side="right") - 1


def _middle(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return low, high
