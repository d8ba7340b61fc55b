from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Links:
    """Pairs of nodes, `first < second`, and the cosine distance of their centroids."""

    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]

    @classmethod
    def joined(cls, parts: list["Links"]) -> "Links":
        """All links of `parts`."""
        return cls(
            np.concatenate([np.zeros(0, np.int64), *(p.first for p in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(p.second for p in parts)]),
            np.concatenate([np.zeros(0, np.float32), *(p.distance for p in parts)]),
        )

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, rows: np.ndarray) -> "Links":
        return Links(self.first[rows], self.second[rows], self.distance[rows])

    def shifted(self, by: int) -> "Links":
        """The same links among nodes numbered `by` higher."""
        return Links(self.first + by, self.second + by, self.distance)

    def in_order(self) -> "Links":
        """The same links in the order of their nodes, each once."""
        order = np.lexsort((self.second, self.first))
        first, second = self.first[order], self.second[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
        return self[order[fresh]]
