"""Review decisions as constraints, and their application to identities (not in the paper)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product

import numpy as np
from jaxtyping import Bool, Int

from reappear.core import Assignment, Decision, InputError, TrackletSet

from .constraints import CannotLink, Constraint, is_reliable, overlapping_pairs
from .groups import Groups, renumber
from .joining import components, join
from .links import Links
from .trace import Trace

STAGE = "review"
_DECIDED = np.float32(-1)  # less than any distance


@dataclass(frozen=True)
class ReviewConstraints:
    """Constraints from all review decisions.

    Attributes:
        same: Pairs of tracklets that are one person, a forest.
        different: Pairs of tracklets that are two people.
        rejected: Rejected crops.
        counts: Number of decisions by kind.
        overruled: Messages: decisions ignored because a later one contradicts them.
    """

    same: Int[np.ndarray, "s 2"]
    different: Int[np.ndarray, "d 2"]
    rejected: Bool[np.ndarray, " n"]
    counts: dict[str, int]
    overruled: tuple[str, ...]

    @classmethod
    def of(cls, decisions: Sequence[Decision], tracklets: TrackletSet) -> "ReviewConstraints":
        """Resolves conflicts: later decisions override earlier ones.

        Raises:
            InputError: A tracklet or crop does not exist.
        """
        ledger = _Ledger()
        rejected = np.zeros(len(tracklets.embeddings), bool)
        for decision in sorted(decisions, key=lambda made: -made.line):
            _check(decision, len(tracklets), len(rejected))
            if decision.kind == "reject":
                for tracklet in ledger.reject(decision):
                    rejected[tracklets.offsets[tracklet] : tracklets.offsets[tracklet + 1]] = True
                rejected[list(decision.crops)] = True
            elif decision.kind in ("same", "merge"):
                ledger.unite(decision)
            else:
                ledger.part(decision)
        return cls(
            np.array(ledger.same, np.int64).reshape(-1, 2),
            np.array(ledger.different, np.int64).reshape(-1, 2),
            rejected,
            dict(Counter(decision.kind for decision in decisions)),
            tuple(reversed(ledger.overruled)),
        )

    def cannot_link(self, tracklets: TrackletSet, present: Bool[np.ndarray, " t"], overlap: float | None) -> CannotLink:
        """Cannot-link pairs from decisions and, with `overlap`, from simultaneous tracklets.

        Decisions override simultaneity. A cannot-link constraint extends to all tracklets merged with "same".
        """
        person = self._person(len(tracklets))
        seen = np.zeros((0, 2), np.int64) if overlap is None else overlapping_pairs(tracklets, present, overlap)
        seen = seen[person[seen[:, 0]] != person[seen[:, 1]]]
        pairs = np.concatenate([self.different, seen])
        decided = np.arange(len(pairs)) < len(self.different)
        crowd = Groups.of(person, int(person.max(initial=-1)) + 1)
        wide = np.flatnonzero((crowd.sizes[person[pairs]] > 1).any(axis=1))
        more, why = [pairs], [decided]
        for (a, b), by_decision in zip(person[pairs[wide]].tolist(), decided[wide].tolist(), strict=True):
            sides = (crowd.rows[crowd.offsets[one] : crowd.offsets[one + 1]] for one in (a, b))
            grown = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
            more.append(grown)
            why.append(np.full(len(grown), by_decision))
        return CannotLink(np.concatenate(more), np.concatenate(why))

    def _person(self, count: int) -> Int[np.ndarray, " count"]:
        """Group number of each tracklet under "same" decisions."""
        first, second = self.same.T
        return components(count, Links(first, second, np.zeros(len(first), np.float32)))

    def contradicted(self, tracklets: TrackletSet, overlap: float) -> int:
        """Number of simultaneous pairs that are one person by decision."""
        named = np.zeros(len(tracklets), bool)
        named[self.same] = True
        person = self._person(len(tracklets))
        seen = overlapping_pairs(tracklets, named, overlap)
        return int(np.count_nonzero(person[seen[:, 0]] == person[seen[:, 1]]))


class _Ledger:
    """Decisions in force, from the last to the first."""

    def __init__(self) -> None:
        self.same: list[tuple[int, int]] = []
        self.different: list[tuple[int, int]] = []
        self.overruled: list[str] = []
        self._root: dict[int, int] = {}
        self._cannot_link: dict[int, dict[int, int]] = {}
        self._rejected: dict[int, int] = {}
        self._named: dict[int, int] = {}

    def reject(self, decision: Decision) -> Iterator[int]:
        """The tracklets that no later decision assigns to a person."""
        for tracklet in decision.tracklets:
            if (later := self._named.get(tracklet)) is not None:
                self._say(decision, f"tracklet {tracklet} is a person", later)
            else:
                self._rejected.setdefault(tracklet, decision.line)
                yield tracklet

    def unite(self, decision: Decision) -> None:
        """Applies "same" and "merge", except where later decisions contradict."""
        for tracklet in self._left(decision, decision.tracklets):
            self._named.setdefault(tracklet, decision.line)
        for a, b in pairwise(self._left(decision, decision.tracklets, quiet=True)):
            x, y = self._find(a), self._find(b)
            if x == y:
                continue
            if (later := self._cannot_link.get(x, {}).get(y)) is not None:
                self._say(decision, f"tracklets {a} and {b} are not one person", later)
                continue
            self.same.append((a, b))
            self._root[y] = x
            for other, line in self._cannot_link.pop(y, {}).items():
                self._cannot_link.setdefault(x, {}).setdefault(other, line)
                self._cannot_link[other].setdefault(x, line)
                del self._cannot_link[other][y]

    def part(self, decision: Decision) -> None:
        """Applies "different" and "split", except where later decisions contradict."""
        sides = [self._left(decision, decision.tracklets), self._left(decision, decision.others)]
        for a, b in product(*sides) if decision.kind == "split" else combinations(sides[0], 2):
            x, y = self._find(a), self._find(b)
            if x == y:
                self._say(decision, f"tracklets {a} and {b} are one person", None)
                continue
            self.different.append((a, b))
            self._cannot_link.setdefault(x, {}).setdefault(y, decision.line)
            self._cannot_link.setdefault(y, {}).setdefault(x, decision.line)

    def _left(self, decision: Decision, tracklets: Iterable[int], *, quiet: bool = False) -> list[int]:
        left = []
        for tracklet in tracklets:
            if (later := self._rejected.get(tracklet)) is None:
                left.append(tracklet)
            elif not quiet:
                self._say(decision, f"tracklet {tracklet} is rejected", later)
        return left

    def _find(self, node: int) -> int:
        while (up := self._root.get(node, node)) != node:
            self._root[node] = self._root.get(up, up)
            node = up
        return node

    def _say(self, decision: Decision, fact: str, line: int | None) -> None:
        by = f"line {line}" if line is not None else "later lines"
        self.overruled.append(f"line {decision.line} ({decision.kind}): {fact} by {by}")


def _check(decision: Decision, tracklets: int, crops: int) -> None:
    for what, numbers, count in (
        ("tracklet", (*decision.tracklets, *decision.others), tracklets),
        ("crop", decision.crops, crops),
    ):
        if max(numbers, default=-1) >= count:
            raise InputError(
                f"line {decision.line} of the review: there is no {what} {max(numbers)}; "
                f"they are numbered 0 to {count - 1}"
            )


def reject(assignment: Assignment, review: ReviewConstraints, trace: Trace | None = None) -> Assignment:
    """Discards the crops rejected by review."""
    gone = np.flatnonzero(review.rejected & (assignment.tracklet >= 0))
    owner = assignment.tracklet.copy()
    if trace is not None:
        nowhere = np.full(len(gone), -1, np.int64)
        trace.add_moves(STAGE, gone, owner[gone], nowhere, np.full(len(gone), np.nan, np.float32))
    owner[gone] = -1
    held = np.bincount(owner[owner >= 0], minlength=len(assignment.identity)) > 0
    identity = renumber(np.where(held, assignment.identity, -1))
    if trace is not None:
        trace.connect(identity)
    return Assignment(owner, identity)


def apply_review(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    review: ReviewConstraints,
    overlap: float | None,
    unite: bool = True,
    trace: Trace | None = None,
) -> Assignment:
    """Merges and splits identities according to review decisions.

    "Same" tracklets are merged. An identity that then violates a cannot-link constraint is rebuilt: decisions first,
    then its links from the shortest, except those that would violate the constraint. Parts of it that nothing forbids
    to be one stay one, also where they were linked through what is taken out. It runs after all stages that link by
    distance, because the mean of a person seen from two sides is similar to neither.

    Args:
        tracklets: All crops.
        assignment: Where they are now.
        review: The decisions.
        overlap: Seconds that two tracklets of one video must overlap to be simultaneous; None = no such constraint.
        unite: Whether to merge and split, or to split only.
        trace: Provides the links of the identities. Records merges by decision, whose distance is NaN, drops unused
            links, and connects what is left of an identity (`Trace.connect`).
    """
    count = len(tracklets)
    held = np.bincount(assignment.tracklet[assignment.tracklet >= 0], minlength=count) > 0
    of = np.where(held, assignment.identity, -1)
    same = np.sort(review.same[unite & held[review.same].all(axis=1)], axis=1)
    decided = Links(same[:, 0], same[:, 1], np.full(len(same), _DECIDED))
    recorded = trace.joins() if trace is not None else _chains(of)
    recorded = recorded[(of[recorded.first] == of[recorded.second]) & (of[recorded.first] >= 0)]
    links = _shortest(Links.joined([decided, recorded]), count)
    cannot_link = review.cannot_link(tracklets, is_reliable(tracklets, assignment.tracklet), overlap)
    made = join(count, links, Constraint(cannot_link, np.where(held, np.arange(count), -1)))
    made = replace(made, group=_rejoined(of, made.group, cannot_link))
    identity = renumber(np.where(of >= 0, made.group, -1))
    if trace is not None:
        by_decision = made.kept.distance == _DECIDED
        trace.keep_links(made.kept[~by_decision], count)
        nothing = np.full(np.count_nonzero(by_decision), np.nan, np.float32)
        trace.add_links(STAGE, made.kept.first[by_decision], made.kept.second[by_decision], nothing)
        trace.add_refused(STAGE, made, cannot_link, np.arange(count))
        trace.connect(identity)
    return Assignment(assignment.tracklet, identity)


def _shortest(links: Links, count: int) -> Links:
    """One link for each two tracklets."""
    links = links[np.lexsort((links.distance, links.second, links.first))]
    return links[np.unique(links.first * count + links.second, return_index=True)[1]]


def _chains(identity: Int[np.ndarray, " t"]) -> Links:
    """Substitute links for identities without recorded ones."""
    groups = Groups.of(identity, int(identity.max(initial=-1)) + 1)
    inside = np.diff(identity[groups.rows]) == 0
    first, second = groups.rows[:-1][inside], groups.rows[1:][inside]
    return Links(first, second, np.zeros(len(first), np.float32))


def _rejoined(
    identity: Int[np.ndarray, " t"], part: Int[np.ndarray, " t"], cannot_link: CannotLink
) -> Int[np.ndarray, " t"]:
    """The group of each tracklet after parts of one identity are joined where allowed, the first ones first.

    In each round one part of each identity, in the order of their first tracklets, takes in all later ones that it may.
    """
    held = np.flatnonzero(identity >= 0)
    place = 0
    while True:
        count = int(part.max(initial=-1)) + 1
        keys, first = np.unique(identity[held] * count + part[held], return_index=True)
        order = np.lexsort((first, keys // max(1, count)))
        whole, parts = np.divmod(keys[order], max(1, count))
        rank = np.arange(len(whole)) - np.searchsorted(whole, whole)
        later = np.flatnonzero(rank > place)
        if not len(later):
            return part
        ends = np.sort(np.stack([parts[later - rank[later] + place], parts[later]]), axis=0)
        links = Links(ends[0], ends[1], rank[later].astype(np.float32)).in_order()
        constraint = Constraint(cannot_link, np.where(identity >= 0, part, -1))
        part = join(count, links, constraint).group[part]
        place += 1
