"""Thresholds that suit the extractor, from what the footage itself tells."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Assignment, Engine, SettingsError, TrackletSet, generator, offsets_to_owner

from .constraints import overlapping_pairs
from .groups import Groups, centroids, distance_to_own, read_unit
from .joining import shortest_forest
from .linking import count_pairs, find_links
from .single_tracklet import single_tracklet
from .steps import OVERLAP, RESOLUTION, SIGMA_CST, SIGMA_DRM, check_sigma

_MOST = 1_000_000  # distances looked at for one distribution
_FEWEST_CROPS = 200
_FEWEST_APART = 50
_FEWEST_PAIRS = 1000


@dataclass(frozen=True)
class Calibration:
    """Thresholds and the evidence behind them; NaN = no evidence of that kind.

    Attributes:
        sigma_cst: Threshold inside an identity.
        sigma_drm: Threshold between identities.
        crops: Crops compared with the other crops of their tracklet.
        crops_outside: Share of them at least `sigma_cst` from these.
        apart: Pairs of tracklets seen at the same time in one video, which are two people.
        strangers_inside: Share of crops within `sigma_cst` of a tracklet seen at the same time.
        apart_linked: Share of pairs seen at the same time within `sigma_drm`.
        halves: Tracklets of four crops or more, whose halves are one person.
        halves_linked: Share of them whose halves are within `sigma_drm`.
        pairs: Pairs of tracklets that linking compares.
        pairs_linked: How many of them are within `sigma_drm`.
        false_links: How many of these to expect between different people.
        notes: What the evidence did not carry, in words.
    """

    sigma_cst: float
    sigma_drm: float
    crops: int
    crops_outside: float
    apart: int
    strangers_inside: float
    apart_linked: float
    halves: int
    halves_linked: float
    pairs: int
    pairs_linked: int
    false_links: float
    notes: tuple[str, ...]


def calibrate(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    outliers: float = 0.1,
    strangers: float = 0.05,
    false_links: float = 0.1,
    radius: int | None = None,
    overlap: float = OVERLAP,
    sigma_cst: float | None = None,
    engine: Engine = LOCAL,
) -> Calibration:
    """Chooses σ_cst and σ_drm for the extractor at hand. Not in the paper, whose 0.20 and 0.18 fit one network.

    A tracklet is one person, and tracklets seen at the same time in one video are two. σ_cst is where no more than
    the share `strangers` of crops would pass as a member of a tracklet seen at the same time, but no less than what
    keeps all but the share `outliers` of crops in their own.

    σ_drm weighs links against what a false one costs: it joins two people whole, so that what counts is how many there
    are for each person. How often strangers come within a distance is read off the pairs seen at the same time, and off
    all pairs, almost all of which are two people. The lower tail, where pairs of one person hide, is continued from
    higher quantiles (1 and 10 %, 5 and 20 %) as a power law, which is how distances near zero thin out in a space of
    any dimension. Pairs of one person only ever add to a tail, so the lowest of these estimates is taken. σ_drm is the
    longest link at which the false ones expected stay below `false_links` for each identity that linking leaves.

    Args:
        tracklets: All crops.
        assignment: Where they are now; each tracklet is taken for one person.
        outliers: Largest share of crops to call noise, 0..1.
        strangers: Share of crops that may pass for somebody seen at the same time, 0..1.
        false_links: Links between different people that are bearable, for each identity left; more than 0.
        radius: Half width of the sliding range that linking will use; `None` = all pairs.
        overlap: Seconds that two tracklets must share in one video to be two people.
        sigma_cst: Where it is set by hand.
        engine: Where pairs are compared, and where centroids lie.
    """
    for name, share in (("outliers", outliers), ("strangers", strangers)):
        if not 0 < share < 1:
            raise SettingsError(f"{name}: must lie between 0 and 1, got {share}")
    if not false_links > 0:
        raise SettingsError(f"false_links: must be more than 0, got {false_links}")
    notes: list[str] = []
    groups = Groups.of(assignment.tracklet, len(tracklets))
    own = _distance_to_rest(tracklets, groups, engine)
    pairs = _spread(overlapping_pairs(tracklets, groups.sizes > 0, overlap), _MOST)
    other = _distance_to_others(tracklets, groups, pairs, engine)
    if sigma_cst is None:
        sigma_cst = _choose_cst(own, other, len(pairs), outliers, strangers, notes)
    check_sigma("sigma_cst", sigma_cst)

    clean = Groups.of(single_tracklet(tracklets, assignment, sigma_cst=sigma_cst).tracklet, len(tracklets))
    centers = centroids(tracklets.embeddings, clean, engine)
    apart = 1 - np.einsum("pd,pd->p", centers[pairs[:, 0]], centers[pairs[:, 1]], dtype=np.float64)
    halves = _distance_of_halves(tracklets, clean, engine)
    nodes = centers[clean.sizes > 0]
    count = len(nodes)
    reach = max(0, min(count - 1, count if radius is None else radius))
    compared = reach * count - reach * (reach + 1) // 2
    tails = _tails(apart) if len(apart) >= _FEWEST_APART else []
    tails += _tails(_distances(nodes, reach, compared)) if compared >= _FEWEST_PAIRS else []
    if tails:
        sigma_drm = _choose_drm(nodes, reach, compared, tails, false_links)
        expected = compared * min(float(tail.share(np.array([sigma_drm]))[0]) for tail in tails)
        if len(apart) < _FEWEST_APART:
            notes.append(
                f"only {len(apart)} pairs of tracklets are seen at the same time; "
                f"sigma_drm supposes that few of all pairs are one person"
            )
    else:
        sigma_drm = min(SIGMA_DRM, float(np.quantile(halves, 0.9)) if len(halves) else SIGMA_DRM)
        expected = float("nan")
        notes.append(
            f"{count} tracklets, {len(apart)} pairs of them seen at the same time, are too few to tell people apart; "
            f"sigma_drm is the paper's {SIGMA_DRM}, or less where 9 of 10 tracklets have halves that are closer"
        )
    as_tracked = _distance_of_halves(
        tracklets, groups, engine
    )  # of an extractor that says nothing, cleaning leaves nothing
    if len(apart) and len(as_tracked) and np.median(as_tracked) >= np.median(apart) - RESOLUTION:
        notes.append(
            "halves of one tracklet are no closer than tracklets of people seen at the same time: "
            "this extractor cannot tell these people apart; use another"
        )
    return Calibration(
        sigma_cst=sigma_cst,
        sigma_drm=sigma_drm,
        crops=len(own),
        crops_outside=_share(own >= sigma_cst),
        apart=len(apart),
        strangers_inside=_share(other < sigma_cst),
        apart_linked=_share(apart <= sigma_drm),
        halves=len(halves),
        halves_linked=_share(halves <= sigma_drm),
        pairs=compared,
        pairs_linked=count_pairs(nodes, sigma_drm, reach=reach, engine=engine),
        false_links=expected,
        notes=tuple(notes),
    )


def _choose_cst(
    own: Float[np.ndarray, " n"],
    other: Float[np.ndarray, " m"],
    apart: int,
    outliers: float,
    strangers: float,
    notes: list[str],
) -> float:
    if len(own) < _FEWEST_CROPS:
        notes.append(f"only {len(own)} crops have others to compare with; sigma_cst is the paper's {SIGMA_CST}")
        return SIGMA_CST
    keeps = float(np.quantile(own, 1 - outliers))
    if apart < _FEWEST_APART:
        notes.append(
            f"only {apart} pairs of tracklets are seen at the same time; sigma_cst is the paper's {SIGMA_CST}, "
            f"or more where that would lose more than {outliers:.0%} of crops"
        )
        return max(SIGMA_CST, keeps)
    return min(2.0, max(keeps, float(np.quantile(other, strangers))))


def _choose_drm(
    nodes: Float[np.ndarray, "n d"], reach: int, compared: int, tails: "list[_Tail]", false_links: float
) -> float:
    # No more identities than nodes can be left, which bounds the search.
    ceiling = max(tail.quantile(false_links * len(nodes) / compared) for tail in tails)
    forest = shortest_forest(len(nodes), find_links(nodes, min(2.0, ceiling), reach=reach)).distance.astype(np.float64)
    left = len(nodes) - np.arange(1, len(forest) + 1)
    expected = compared * np.min([tail.share(forest) for tail in tails], axis=0)
    bearable = np.flatnonzero(expected <= false_links * left)
    if not len(bearable):
        return min(tail.quantile(false_links / compared) for tail in tails)
    return float(forest[bearable[-1]])


@dataclass(frozen=True)
class _Tail:
    """The lower tail of the distances between strangers: a power law through two quantiles."""

    low: float
    share_at_low: float
    exponent: float

    @classmethod
    def through(cls, distance: Float[np.ndarray, " n"], near: float, far: float) -> "_Tail":
        low, high = (max(1e-6, float(q)) for q in np.quantile(distance, (near, far)))
        return cls(low, near, np.log(far / near) / max(1e-3, np.log(high / low)))

    def share(self, distance: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Share of pairs of strangers within each distance."""
        logarithm = np.log(self.share_at_low) + self.exponent * np.log(np.maximum(distance, 1e-12) / self.low)
        return np.asarray(np.exp(np.minimum(0, logarithm)))

    def quantile(self, share: float) -> float:
        """The distance within which this share of them lies."""
        return float(self.low * (share / self.share_at_low) ** (1 / self.exponent))


def _tails(distance: Float[np.ndarray, " n"]) -> list[_Tail]:
    """Tails through the 1 % and 10 % quantiles, where there are enough distances, and through those of 5 % and 20 %."""
    ranges = [(0.05, 0.2), *([(0.01, 0.1)] if len(distance) >= _FEWEST_PAIRS else [])]
    return [_Tail.through(distance, near, far) for near, far in ranges]


def _share(marks: np.ndarray) -> float:
    return float(np.mean(marks)) if len(marks) else float("nan")


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Evenly spaced rows, at most `most`."""
    return rows[:: max(1, -(-len(rows) // most))]


def _distances(nodes: Float[np.ndarray, "n d"], reach: int, compared: int) -> Float[np.ndarray, " p"]:
    """Distances of pairs at most `reach` apart, drawn evenly."""
    draw = generator(0, "calibrate")
    gap = draw.integers(1, reach + 1, min(2 * compared, _MOST))
    first = draw.integers(0, len(nodes), len(gap))
    inside = first + gap < len(nodes)
    first, second = first[inside], (first + gap)[inside]
    step = 65_536
    return np.concatenate(
        [
            1 - np.einsum("pd,pd->p", nodes[first[i : i + step]], nodes[second[i : i + step]], dtype=np.float64)
            for i in range(0, len(first), step)
        ]
    )


def _distance_to_rest(tracklets: TrackletSet, groups: Groups, engine: Engine) -> Float[np.ndarray, " n"]:
    """Cosine distance of each crop to the mean of the other crops of its tracklet, where it has at least two others."""
    owner = offsets_to_owner(groups.offsets)
    centers = centroids(tracklets.embeddings, groups, engine)
    cosine = (1 - distance_to_own(tracklets.embeddings, groups, centers)).astype(np.float64)
    # x·S and |S| follow from the distance to the full mean: |S| is the sum of x·c over the tracklet.
    length = np.bincount(owner, cosine, minlength=len(groups))[owner]
    toward = cosine * length
    rest = np.sqrt(np.maximum(length**2 - 2 * toward + 1, 1e-10))
    return np.asarray((1 - (toward - 1) / rest)[groups.sizes[owner] >= 3])


def _distance_to_others(
    tracklets: TrackletSet, groups: Groups, pairs: Int[np.ndarray, "p 2"], engine: Engine
) -> np.ndarray:
    """Cosine distance of crops to the tracklets seen at the same time; of each pair the middle crops, both ways."""
    both = _spread(np.concatenate([pairs, pairs[:, ::-1]]), _MOST // 4)
    centers = centroids(tracklets.embeddings, groups, engine)
    middle = groups.rows[groups.offsets[both[:, 0]] + groups.sizes[both[:, 0]] // 2]
    step = 65_536
    return np.concatenate(
        [np.zeros(0)]
        + [
            1
            - np.einsum(
                "pd,pd->p", read_unit(tracklets.embeddings, middle[i : i + step]), centers[both[i : i + step, 1]]
            )
            for i in range(0, len(both), step)
        ]
    )


def _distance_of_halves(tracklets: TrackletSet, groups: Groups, engine: Engine) -> Float[np.ndarray, " h"]:
    """Cosine distance between the first and the second half of each tracklet of four crops or more."""
    owner = offsets_to_owner(groups.offsets)
    place = np.arange(len(owner)) - groups.offsets[owner]
    half = np.full(len(tracklets.embeddings), -1, np.int64)
    half[groups.rows] = 2 * owner + (place >= groups.sizes[owner] // 2)
    centers = centroids(tracklets.embeddings, Groups.of(half, 2 * len(groups)), engine)
    long = groups.sizes >= 4
    return np.asarray(1 - np.einsum("td,td->t", centers[::2][long], centers[1::2][long]), np.float64)
