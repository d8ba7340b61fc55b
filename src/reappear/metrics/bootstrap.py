"""Bootstrap intervals of scores: people are resampled, since the queries of one person are correlated."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reappear.core import InputError, generator


@dataclass(frozen=True)
class Interval:
    """A mean over queries, and the middle 95 % of it over draws of people.

    Attributes:
        mean: Over the queries that count.
        low: 2.5th percentile.
        high: 97.5th percentile.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """The second score less the first, over the queries that count in both, under the same draws.

    Attributes:
        sign_flip_rate: Share of draws in which the difference has not the sign of `mean`; twice that approximates the
            p-value of the two-sided test.
    """

    sign_flip_rate: float


def draw_people(people: int, draws: int, seed: int) -> Float[np.ndarray, "draws people"]:
    """How often each of them is drawn, of as many draws with replacement as there are people."""
    drawn = generator(seed, "bootstrap").integers(people, size=(draws, people))
    slot = drawn + np.arange(draws)[:, None] * people
    return np.bincount(slot.ravel(), minlength=draws * people).reshape(draws, people).astype(np.float64)


def interval(
    scores: Float[np.ndarray, " q"], ids: Int[np.ndarray, " q"], *, draws: int = 1000, seed: int = 0
) -> Interval:
    """The mean of a score per query, with its bootstrap interval.

    Args:
        scores: Such as `Ranking.average_precision`; NaN = does not count.
        ids: The person of each query.
        draws: How many times people are drawn.
        seed: Of the draws.
    """
    drawn = _means(scores, ids, draws, seed)
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    return Interval(float(np.nanmean(scores)), low, high)


def paired_difference(
    first: Float[np.ndarray, " q"],
    second: Float[np.ndarray, " q"],
    ids: Int[np.ndarray, " q"],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Difference:
    """The paired difference, second minus first, with its bootstrap interval.

    Raises:
        InputError: No query counts in both.
    """
    difference = second - first
    if np.isnan(difference).all():
        raise InputError("no query counts in both evaluations; compare on the same queries")
    drawn = _means(difference, ids, draws, seed)
    mean = float(np.nanmean(difference))
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    sign_flip_rate = np.mean(drawn <= 0) if mean > 0 else np.mean(drawn >= 0)
    return Difference(mean, low, high, float(sign_flip_rate))


def _means(
    scores: Float[np.ndarray, " q"], ids: Int[np.ndarray, " q"], draws: int, seed: int
) -> Float[np.ndarray, " draws"]:
    counts = ~np.isnan(scores)
    person = np.unique(ids[counts], return_inverse=True)[1]
    sums, queries = np.bincount(person, scores[counts]), np.bincount(person)
    weight = draw_people(len(queries), draws, seed)
    return weight @ sums / (weight @ queries)
