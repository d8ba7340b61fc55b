"""Clustering scores: agreement of predicted identities with true ones."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, counted


@dataclass(frozen=True)
class ClusteringScores:
    """Agreement of two groupings of the same crops; fractions in [0, 1] unless noted.

    A crop without a true person (-1) is a person of its own: kept with others it is wrong, kept alone it is not. A
    discarded crop (found -1) is in no identity: it costs no precision, but its person is not found in it, which
    costs recall.

    Attributes:
        pairwise_precision: Of pairs of crops put together, those of one person; 1 where no pair is.
        pairwise_recall: Of pairs of crops of one person, those put together; 1 where there is no such pair.
        pairwise_f1: Their harmonic mean.
        bcubed_precision: Mean over kept crops of the share of their identity that is their person, themselves included
            (Bagga and Baldwin 1998).
        bcubed_recall: Mean over crops with a true person of the share of their person that is in their identity; 0 for
            discarded ones.
        bcubed_f1: Their harmonic mean.
        adjusted_rand: Adjusted Rand index over kept crops, in [-0.5, 1] (Hubert and Arabie 1985).
        homogeneity: 1 - H(person | identity) / H(person) over kept crops (Rosenberg and Hirschberg 2007).
        completeness: 1 - H(identity | person) / H(identity) over kept crops.
        v_measure: Their harmonic mean.
        purity: Share of kept crops whose person is the most frequent one of their identity.
        fragmentation: Identities that a person is spread over, mean over people with a kept crop; 1 or more.
        identities: Identities found.
        people: People with at least one crop.
    """

    pairwise_precision: float
    pairwise_recall: float
    pairwise_f1: float
    bcubed_precision: float
    bcubed_recall: float
    bcubed_f1: float
    adjusted_rand: float
    homogeneity: float
    completeness: float
    v_measure: float
    purity: float
    fragmentation: float
    identities: int
    people: int


def score_identities(truth: Int[np.ndarray, " n"], found: Int[np.ndarray, " n"]) -> ClusteringScores:
    """Compares identities found with true ones; see `ClusteringScores` for what -1 means.

    Args:
        truth: The true person of each crop; -1 = none.
        found: The identity of each crop; -1 = discarded.

    Raises:
        InputError: Every crop is discarded or has no true person.
    """
    if not ((truth >= 0) & (found >= 0)).any():
        raise InputError(
            f"score_identities: none of {counted(len(truth), 'crop')} has both a true person and an identity"
        )
    unlabelled = truth < 0
    person = np.where(unlabelled, truth.max() + 1 + np.cumsum(unlabelled), truth)
    person = np.unique(person, return_inverse=True)[1]
    labelled = np.unique(person[~unlabelled])
    people = np.bincount(person)

    kept = found >= 0
    identity = np.unique(found[kept], return_inverse=True)[1]
    row, column = person[kept], identity
    width = int(column.max()) + 1
    cell, cells = np.unique(row.astype(np.int64) * width + column, return_counts=True)
    of_person, of_identity = cell // width, cell % width
    sizes = np.bincount(column)
    kept_people = np.bincount(row, minlength=len(people))

    together, same = _pairs(sizes), _pairs(people)
    right = _pairs(cells)
    precision = right / together if together else 1.0
    recall = right / same if same else 1.0

    bcubed_precision = float((cells * cells / sizes[of_identity]).sum() / sizes.sum())
    mine = np.isin(of_person, labelled)
    bcubed_recall = float((cells * cells / people[of_person])[mine].sum() / people[labelled].sum())

    homogeneity, completeness = _information(cells, kept_people[of_person], sizes[of_identity], kept_people, sizes)
    most = np.zeros(width, np.int64)
    np.maximum.at(most, of_identity, cells)
    spread = np.bincount(of_person[mine], minlength=len(people))
    return ClusteringScores(
        pairwise_precision=precision,
        pairwise_recall=recall,
        pairwise_f1=_harmonic(precision, recall),
        bcubed_precision=bcubed_precision,
        bcubed_recall=bcubed_recall,
        bcubed_f1=_harmonic(bcubed_precision, bcubed_recall),
        adjusted_rand=_adjusted_rand(right, _pairs(kept_people), together, int(sizes.sum())),
        homogeneity=homogeneity,
        completeness=completeness,
        v_measure=_harmonic(homogeneity, completeness),
        purity=float(most.sum() / sizes.sum()),
        fragmentation=float(spread[spread > 0].mean()),
        identities=width,
        people=len(labelled),
    )


def _pairs(sizes: np.ndarray) -> int:
    return int((sizes.astype(np.int64) * (sizes - 1) // 2).sum())


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _adjusted_rand(right: int, same: int, together: int, crops: int) -> float:
    every = crops * (crops - 1) // 2
    if not every:
        return 1.0
    by_chance = same * together / every
    most = (same + together) / 2
    return (right - by_chance) / (most - by_chance) if most != by_chance else 1.0


def _information(
    cells: np.ndarray, people_of: np.ndarray, sizes_of: np.ndarray, people: np.ndarray, sizes: np.ndarray
) -> tuple[float, float]:
    total = cells.sum()

    def entropy(counts: np.ndarray) -> float:
        share = counts[counts > 0] / total
        return float(-(share * np.log(share)).sum())

    def given(whole: np.ndarray) -> float:
        return float(-(cells / total * np.log(cells / whole)).sum())

    of_person, of_identity = entropy(people), entropy(sizes)
    return (
        1 - given(sizes_of) / of_person if of_person else 1.0,
        1 - given(people_of) / of_identity if of_identity else 1.0,
    )
