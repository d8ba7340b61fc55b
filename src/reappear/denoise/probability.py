"""How sure a link is: of pairs as similar, the share that are one person (not in the paper).

Pairs of groups that were left apart are nearly all of different people, and the more similar, the fewer. The fall of
their number with similarity, continued above the threshold, says how many pairs of different people were linked.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq, minimize

from reappear.core import thread_map

from .average import Similarities, sums_between
from .constraints import Constraint
from .groups import Groups
from .joining import Merged
from .neighbors import Neighbors
from .trace import Columns

_LOOKED_AT = 20_000  # groups
_ROWS = 4096
_BIN = 0.25
_REACH, _MARGIN = (
    4.0,
    0.5,
)  # pairs left apart are counted from `least` - 4 to `least` - 0.5: beyond, some are one person
_SLOPE, _SLOPE_SPREAD = -0.9, 0.35  # of the logarithm of the number, and how far kinds differ
_CURVATURE_SPREAD = 0.05
_STEEPNESS = 0.6  # of the odds of a wrong link, as a share of the slope of the number of pairs of different people
_MOST_WRONG = 0.9
_ROUNDING = 1e-9  # more than that of the sums behind an expected precision
_HIGHEST = 21.0  # above `least`; more is as sure

DOUBTFUL = 0.5
"""Below this probability of its weakest link an identity is doubtful."""


def link_probability(
    similarities: Similarities, neighbors: Neighbors, merged: Merged, constraint: Constraint, least: float
) -> Float[np.ndarray, " k"]:
    """For each merge of average linkage the probability that the two groups are one person, 0..1.

    Merges of two nodes, of a node and a group, and of two groups are judged apart. For each of these kinds the number
    n(z) of pairs of groups that were left apart is fitted by log n(z) = a + b z + c z² (Poisson, weak priors on b and
    c ≤ 0), continued along its tangent at the threshold: its integral from there is the expected number of wrong
    merges. The odds of a wrong merge fall with z as exp(-0.6 |slope| z), and sum to that number.

    Args:
        similarities: Of any two nodes.
        neighbors: Of each node; must hold all pairs with a similarity of 0 or more.
        merged: The groups, with the similarity and the sizes of each merge.
        constraint: Nodes that must not come into one group.
        least: Smallest mean similarity of groups that merged, more than 0.
    """
    lowest = max(0.0, least - _REACH)
    bins = max(1, round((least - _MARGIN - lowest) / _BIN))
    edges = least - _MARGIN - _BIN * np.arange(bins, -1, -1)
    apart = _left_apart(similarities, neighbors, merged.group, constraint)
    kind = _kind(*merged.sizes.T)
    kinds = np.unique(kind)
    counts = np.stack([np.histogram(apart.mean[apart.kind == k], edges)[0] for k in kinds]) if len(kinds) else None
    out = np.ones(len(kind))
    if counts is None:
        return out
    density, slope = _continued(counts, (edges[1:] + edges[:-1]) / 2 - least)
    for k, wrong, steep in zip(kinds, density / slope / _BIN / apart.share, slope * _STEEPNESS, strict=True):
        mine = kind == k
        out[mine] = _spread(np.minimum(merged.similarity[mine] - least, _HIGHEST), float(wrong), float(steep))
    return out


@dataclass(frozen=True)
class _Apart:
    """Pairs of groups that are alike and were left apart though nothing forbids them.

    Attributes:
        mean: Mean similarity of all pairs of their nodes.
        kind: 0: two nodes, 1: a node and a group, 2: two groups.
        share: Of all such pairs, those looked at.
    """

    mean: Float[np.ndarray, " p"]
    kind: Int[np.ndarray, " p"]
    share: float


def _kind(first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
    return np.asarray((first > 1).astype(np.int64) + (second > 1))


def _left_apart(
    similarities: Similarities, neighbors: Neighbors, group: Int[np.ndarray, " n"], constraint: Constraint
) -> _Apart:
    """All pairs of groups with two nodes of similarity 0 or more; of many groups, those of a sample."""
    groups = Groups.of(group, int(group.max(initial=-1)) + 1)
    count, step = len(groups), -(-len(groups) // _LOOKED_AT)

    def few(begin: int) -> Int[np.ndarray, " m"]:
        index, cosine = neighbors.index[begin : begin + _ROWS], neighbors.cosine[begin : begin + _ROWS]
        row, column = np.nonzero(index >= 0)
        first, second = row + begin, index[row, column].astype(np.int64)
        low, high = np.sort(np.stack([group[first], group[second]]), axis=0)
        some = (low != high) & (low % step == 0)
        first, second, inner = first[some], second[some], cosine[row[some], column[some]].astype(np.float64)
        alike = similarities.of(first, second, inner) >= 0
        return np.unique(low[some][alike] * count + high[some][alike])

    keys = [np.zeros(0, np.int64), *thread_map(few, range(0, len(group), _ROWS))]
    key = np.unique(np.concatenate(keys))
    forbidden = np.sort(group[constraint.nodes[0]], axis=1)
    key = key[~np.isin(key, forbidden[:, 0] * count + forbidden[:, 1])]
    low, high = key // count, key % count
    sizes = groups.sizes
    mean = sums_between(similarities, groups, low, high) / (sizes[low] * sizes[high])
    return _Apart(mean, _kind(sizes[low], sizes[high]), len(range(0, count, step)) / max(1, count))


def _continued(
    counts: Int[np.ndarray, "k b"], z: Float[np.ndarray, " b"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """The fitted number in a bin at z = 0, and how fast its logarithm falls there, of each kind.

    The curvature is that of all kinds together.
    """
    kinds = len(counts)
    middle = float(z.mean())
    x = z - middle

    def cost(p: Float[np.ndarray, " q"]) -> tuple[float, Float[np.ndarray, " q"]]:
        a, b, c = p[:kinds, None], p[kinds:-1, None], p[-1]
        expected = np.exp(a + b * x + c * x * x)
        off = expected - counts
        value = expected.sum() - (counts * (a + b * x + c * x * x)).sum()
        value += (((b - _SLOPE) / _SLOPE_SPREAD) ** 2).sum() / 2 + (c / _CURVATURE_SPREAD) ** 2 / 2
        by_slope = (off * x).sum(axis=1) + (b[:, 0] - _SLOPE) / _SLOPE_SPREAD**2
        by_curve = (off * x * x).sum() + c / _CURVATURE_SPREAD**2
        return float(value), np.concatenate([off.sum(axis=1), by_slope, [by_curve]])

    begin = np.concatenate([np.log(np.maximum(counts.mean(axis=1), 0.1)), np.full(kinds, _SLOPE), [-0.01]])
    limits = [(-8.0, 18.0)] * kinds + [(-3.0, -0.05)] * kinds + [(-0.3, 0.0)]
    found = minimize(cost, begin, jac=True, method="L-BFGS-B", bounds=limits).x
    a, b, c = found[:kinds], found[kinds:-1], found[-1]
    return np.exp(a - b * middle + c * middle**2), -(b - 2 * c * middle)


def _spread(z: Float[np.ndarray, " m"], wrong: float, steep: float) -> Float[np.ndarray, " m"]:
    """Probabilities of being right that grow with z, so that this many of all are expected to be wrong."""
    wrong = min(wrong, _MOST_WRONG * len(z))
    if wrong < 1e-6:
        return np.ones(len(z))

    def expected(level: float) -> float:
        return float((1 / (1 + np.exp(level + steep * z))).sum()) - wrong

    level = brentq(expected, -100.0, 100.0)
    return np.asarray(1 / (1 + np.exp(-(level + steep * z))))


def least_for(
    precision: float,
    similarity: Float[np.ndarray, " k"],
    sizes: Int[np.ndarray, "k 2"],
    probability: Float[np.ndarray, " k"],
) -> float:
    """The smallest similarity of merges at which this share of the linked pairs of nodes is expected to be right.

    Args:
        precision: Wanted share, 0..1; also reached where it lacks 1e-9 or less, by the rounding of sums.
        similarity: Of each merge.
        sizes: Nodes of the two groups of each.
        probability: That each is right.

    Returns:
        Infinity if the strongest merges do not reach it.
    """
    order = np.argsort(-similarity, kind="stable")
    pairs = sizes.prod(axis=1)[order]
    share = np.cumsum(pairs * probability[order]) / np.cumsum(pairs)
    last_of_equal = np.append(np.diff(similarity[order]) != 0, True) if len(order) else np.zeros(0, bool)
    enough = np.flatnonzero(last_of_equal & (share >= precision - _ROUNDING))
    return float(similarity[order[enough[-1]]]) if len(enough) else np.inf


def expected_precision(sizes: Int[np.ndarray, "k 2"], probability: Float[np.ndarray, " k"]) -> float:
    """Expected share of the linked pairs of nodes that are one person, 0..1; NaN without links."""
    pairs = sizes.prod(axis=1)
    return float((pairs * probability).sum() / pairs.sum()) if len(pairs) else np.nan


def weakest_links(identity: Int[np.ndarray, " t"], links: Columns) -> Float[np.ndarray, " i"]:
    """The probability of the least sure link of each identity, 0..1; NaN where none is known.

    Args:
        identity: Of each tracklet; -1 = none.
        links: As `Trace.link_columns` gives them. Links by review, or by distance, have no probability.
    """
    out = np.full(int(identity.max(initial=-1)) + 1, np.nan)
    if "probability" in links:
        first, second = identity[links["first"]], identity[links["second"]]
        known: Bool[np.ndarray, " k"] = (first >= 0) & (first == second)
        np.fmin.at(out, first[known], links["probability"][known])
    return out
