from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from .constraints import CannotLink
from .groups import runs
from .joining import GUARDED, Joined, components
from .links import Links

CARRIED_OVER = "carried-over"

Columns = dict[str, np.ndarray]
Part = tuple[str, Columns]

_PAIRS: dict[str, type] = {"first": np.int64, "second": np.int64, "distance": np.float32}
_LINKS: dict[str, type] = _PAIRS | {"similarity": np.float32, "probability": np.float32}
_MOVES: dict[str, type] = {"crop": np.int64, "source": np.int64, "target": np.int64, "distance": np.float32}
_REFUSED: dict[str, type] = _PAIRS | {"reason": object, "cannot_link_first": np.int64, "cannot_link_second": np.int64}


@dataclass
class Trace:
    """Why the assignment is what it is. Stages add to it when they are given one.

    The fold stays `assignment = stage(tracklets, assignment)`; who wants the reasons passes `trace=Trace()` along.

    Attributes:
        links: Stage and columns: two tracklets whose identities were joined, and the distance of their centroids, NaN
            where people decided it. Of many links between two groups only the shortest that hold them together are
            kept (a spanning forest). By average linkage also the mean similarity of the groups that it merged (z),
            and the probability that these are one person; NaN for others. A link of stage "carried-over" has no
            distance: what linked the two has left their identity, and nothing parts them.
        moves: Stage and columns: crop, the tracklet it left, the one it went to (-1 = discarded), and its distance to
            the deciding centroid; NaN for review decisions.
        refused: Stage and columns: two tracklets whose identities are within the threshold but were not merged; the
            shortest link of two identities. `reason` is "seen together", "review" or "guard"; `cannot_link_first` and
            `cannot_link_second` are the pair that cannot be linked, -1 where the guard refused.
        vetoed: Stage → links refused because they would join two people.
        guarded: Stage → links refused by the guard against chains.
        recall: Stage → share of links or neighbours that an approximate search found, by a sample.
        skipped: Stage → nearest neighbours that may be the same person, left out where others are compared with.
        precision: Stage → expected share of the linked pairs that are one person; NaN where nothing was linked.
    """

    links: list[Part] = field(default_factory=list)
    moves: list[Part] = field(default_factory=list)
    refused: list[Part] = field(default_factory=list)
    vetoed: dict[str, int] = field(default_factory=dict)
    guarded: dict[str, int] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    precision: dict[str, float] = field(default_factory=dict)

    @classmethod
    def after(cls, links: Columns, moves: Columns, refused: Columns) -> "Trace":
        """What was noted before, as the tables that `link_columns`, `move_columns` and `refused_columns` gave."""
        return cls(_parts(links), _parts(moves), _parts(refused))

    def add_links(
        self,
        stage: str,
        first: Int[np.ndarray, " n"],
        second: Int[np.ndarray, " n"],
        distance: Float[np.ndarray, " n"],
        **evidence: Float[np.ndarray, " n"],
    ) -> None:
        """Notes joins of one stage; `evidence` are `similarity` and `probability` where they are known."""
        self.links.append((stage, {"first": first, "second": second, "distance": distance, **evidence}))

    def add_refused(
        self, stage: str, made: Joined, cannot_link: CannotLink, representative: Int[np.ndarray, " n"]
    ) -> None:
        """Notes joins that one stage refused; `representative` is the tracklet that stands for each node."""
        wide = made.witness == GUARDED
        self.vetoed[stage] = self.vetoed.get(stage, 0) + int(np.count_nonzero(~wide))
        self.guarded[stage] = self.guarded.get(stage, 0) + int(np.count_nonzero(wide))
        sides = np.sort(np.stack([made.group[made.refused.first], made.group[made.refused.second]]), axis=0)
        order = np.lexsort((made.refused.distance, *sides))
        fresh = np.ones(len(order), bool)
        fresh[1:] = np.diff(sides[:, order], axis=1).any(axis=0)
        shown = order[fresh & (sides[0] != sides[1])[order]]
        links, wide, row = made.refused[shown], wide[shown], made.witness[shown]
        decided = np.zeros(len(row), bool)
        decided[~wide] = cannot_link.decided[row[~wide]]
        pair = np.full((len(row), 2), -1, np.int64)
        pair[~wide] = cannot_link.pairs[row[~wide]]
        columns = {
            "first": representative[links.first],
            "second": representative[links.second],
            "distance": links.distance,
            "reason": np.array(["seen together", "review", "guard"], object)[np.where(wide, 2, decided)],
            "cannot_link_first": pair[:, 0],
            "cannot_link_second": pair[:, 1],
        }
        self.refused.append((stage, columns))

    def add_moves(
        self,
        stage: str,
        crop: Int[np.ndarray, " n"],
        source: Int[np.ndarray, " n"],
        target: Int[np.ndarray, " n"],
        distance: Float[np.ndarray, " n"],
    ) -> None:
        """Notes what one stage did with crops."""
        self.moves.append((stage, {"crop": crop, "source": source, "target": target, "distance": distance}))

    def joins(self) -> Links:
        """All links so far, between tracklets, but those carried over; a decision is at distance 0."""
        parts = [columns for stage, columns in self.links if stage != CARRIED_OVER]
        return Links.joined([Links(p["first"], p["second"], np.nan_to_num(p["distance"])) for p in parts])

    def keep_links(self, kept: Links, tracklets: int) -> None:
        """Forgets all links but these, of so many tracklets."""
        keys = np.sort(kept.first * tracklets + kept.second)
        self._select(lambda _, links: np.isin(links["first"] * tracklets + links["second"], keys))

    def connect(self, identity: Int[np.ndarray, " t"]) -> None:
        """Makes the links a spanning forest of these identities again, after tracklets were taken out of them.

        Links between identities are forgotten. Parts of an identity that no other link connects get links of stage
        "carried-over" between their first tracklets.
        """

        def inside(stage: str, links: Columns) -> Bool[np.ndarray, " n"]:
            first, second = identity[links["first"]], identity[links["second"]]
            return np.asarray((first == second) & (first >= 0) & (stage != CARRIED_OVER))

        self._select(inside)
        _, heads = np.unique(components(len(identity), self.joins()), return_index=True)
        heads = heads[np.lexsort((heads, identity[heads]))]
        apart = (np.diff(identity[heads]) == 0) & (identity[heads[1:]] >= 0)
        first, second = heads[:-1][apart], heads[1:][apart]
        self.add_links(CARRIED_OVER, first, second, np.full(len(first), np.nan, np.float32))

    def _select(self, which: Callable[[str, Columns], Bool[np.ndarray, " n"]]) -> None:
        """Forgets all other links."""
        self.links = [
            (stage, {name: column[mine] for name, column in columns.items()})
            for stage, columns in self.links
            for mine in [which(stage, columns)]
        ]

    def link_columns(self) -> dict[str, np.ndarray]:
        """All links as one table; with similarities where there are any."""
        return _table(self.links, _LINKS if any("similarity" in columns for _, columns in self.links) else _PAIRS)

    def move_columns(self) -> dict[str, np.ndarray]:
        """All moves as one table."""
        return _table(self.moves, _MOVES)

    def refused_columns(self) -> dict[str, np.ndarray]:
        """All refused links as one table."""
        return _table(self.refused, _REFUSED)


def _parts(table: Columns) -> list[Part]:
    if not table:
        return []
    stage = table["stage"]
    return [
        (str(stage[begin]), {name: column[begin:end] for name, column in table.items() if name != "stage"})
        for begin, end in runs(np.unique(stage, return_inverse=True)[1])
    ]


def _table(parts: list[Part], names: dict[str, type]) -> dict[str, np.ndarray]:
    sizes = [len(columns["distance"]) for _, columns in parts]
    stages = [np.full(size, stage, object) for size, (stage, _) in zip(sizes, parts, strict=True)]
    out = {"stage": np.concatenate([np.empty(0, object), *stages])}
    for name, kind in names.items():
        found: list[np.ndarray] = [
            columns[name].astype(kind) if name in columns else np.full(size, np.nan, kind)
            for size, (_, columns) in zip(sizes, parts, strict=True)
        ]
        out[name] = np.concatenate([np.empty(0, kind), *found])
    return out
