"""Where inner products of many unit rows are taken: the only thing that linking asks of a faster machine."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@runtime_checkable
class Products(Protocol):
    """Computes inner products and returns the large ones; linking recomputes these in float64.

    Attributes:
        block: Rows that are loaded together, and columns.
        tile: Rows and columns of one product, of which a block holds several.
        threads: Whether products of a block are taken by several threads at once, each on a core of its own.
    """

    block: int
    tile: tuple[int, int]
    threads: bool

    def error(self, width: int) -> float:
        """The most by which an inner product of two unit rows of this width may be off."""
        ...

    def load(self, rows: Float[np.ndarray, "n d"]) -> Any:
        """Unit rows in float32, to where products are taken; what comes back is cut like an array."""
        ...

    def at_least(
        self, rows: Any, columns: Any, limit: "float | Float[np.ndarray, ' r']"
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Products of `limit` or more, one for all rows or one for each.

        Returns:
            Where they are, row by row in one count from 0, and how large.
        """
        ...


class Blas:
    """The processor: float32 by the BLAS that numpy has.

    192 rows at a time keep a product in the cache until it has been looked at, and waste little of it at the edge of
    a sliding range.
    """

    block = 4096
    tile = (192, 2048)
    threads = True

    def error(self, width: int) -> float:
        """The bound of sums in any order: width · 2⁻²⁴, and a little for rows that are not quite of unit length."""
        return 1.01 * (width + 8) * 2.0**-24

    def load(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """They are here."""
        return rows

    def at_least(
        self,
        rows: Float[np.ndarray, "r d"],
        columns: Float[np.ndarray, "c d"],
        limit: "float | Float[np.ndarray, ' r']",
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Products of `limit` or more."""
        inner = rows @ columns.T
        found = np.flatnonzero(inner >= np.float32(limit).reshape(-1, 1))
        return found, inner.ravel()[found]


BLAS = Blas()
