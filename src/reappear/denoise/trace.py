from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

_LINKS = ("first", "second", "distance")
_MOVES = ("crop", "source", "target", "distance")


@dataclass
class Trace:
    """Why the assignment is what it is. Stages add to it when they are given one.

    The fold stays `assignment = stage(tracklets, assignment)`; who wants the reasons passes `trace=Trace()` along.

    Attributes:
        links: Stage and columns: two tracklets whose identities were joined, and the distance of their centroids.
            Of many links between two groups only the shortest that hold them together are kept (a spanning forest).
        moves: Stage and columns: crop, the tracklet it left, the one it went to (-1 = discarded), and its distance to
            the centroid that decided.
        vetoed: Stage → joins refused because the groups hold people seen at the same time.
        recall: Stage → share of links that an approximate search found, by a sample.
    """

    links: list[tuple[str, dict[str, np.ndarray]]] = field(default_factory=list)
    moves: list[tuple[str, dict[str, np.ndarray]]] = field(default_factory=list)
    vetoed: dict[str, int] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)

    def add_links(
        self,
        stage: str,
        first: Int[np.ndarray, " n"],
        second: Int[np.ndarray, " n"],
        distance: Float[np.ndarray, " n"],
        vetoed: int,
    ) -> None:
        """Notes joins of one stage."""
        self.links.append((stage, dict(zip(_LINKS, (first, second, distance), strict=True))))
        self.vetoed[stage] = self.vetoed.get(stage, 0) + vetoed

    def add_moves(
        self,
        stage: str,
        crop: Int[np.ndarray, " n"],
        source: Int[np.ndarray, " n"],
        target: Int[np.ndarray, " n"],
        distance: Float[np.ndarray, " n"],
    ) -> None:
        """Notes what one stage did with crops."""
        self.moves.append((stage, dict(zip(_MOVES, (crop, source, target, distance), strict=True))))

    def link_columns(self) -> dict[str, np.ndarray]:
        """All links as one table."""
        return _table(self.links, _LINKS)

    def move_columns(self) -> dict[str, np.ndarray]:
        """All moves as one table."""
        return _table(self.moves, _MOVES)


def _table(parts: list[tuple[str, dict[str, np.ndarray]]], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    stages = [np.full(len(columns["distance"]), stage, object) for stage, columns in parts]
    out = {"stage": np.concatenate([np.empty(0, object), *stages])}
    for name in names:
        kind = np.float32 if name == "distance" else np.int64
        out[name] = np.concatenate([np.empty(0, kind), *(columns[name].astype(kind) for _, columns in parts)])
    return out
