"""Which nodes lie close enough to be one person: matrix products in tiles."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from .joining import shortest_forest
from .links import Links
from .steps import is_same

_ROWS, _COLUMNS = 1024, 4096
_TOO_MANY = 4_000_000  # links held before they are thinned to a spanning forest


def tiles(centers: Float[np.ndarray, "n d"], reach: int) -> Iterator[tuple[int, int, Float[np.ndarray, "r c"]]]:
    """Cosine distances of all pairs with `0 < j - i <= reach`, tile by tile; everything else in a tile is infinite.

    Yields:
        First row, first column, and the distances; the array is used again for the next tile.
    """
    count = len(centers)
    buffer = np.empty((min(_ROWS, count), min(_COLUMNS, count)), np.float32)
    for top in range(0, count, _ROWS):
        bottom = min(top + _ROWS, count)
        for left in range(top, min(bottom + reach, count), _COLUMNS):
            right = min(left + _COLUMNS, bottom + reach, count)
            tile = buffer.ravel()[: (bottom - top) * (right - left)].reshape(bottom - top, right - left)
            np.matmul(centers[top:bottom], centers[left:right].T, out=tile)
            np.subtract(1, tile, out=tile)
            if left < bottom or right - 1 - top > reach:
                gap = np.arange(left, right) - np.arange(top, bottom)[:, None]
                tile[(gap <= 0) | (gap > reach)] = np.inf
            yield top, left, tile


def count_pairs(centers: Float[np.ndarray, "n d"], sigma_drm: float) -> int:
    """How many unordered pairs are within `sigma_drm`, of all N² / 2, exactly."""
    return sum(int(np.count_nonzero(is_same(tile, sigma_drm))) for _, _, tile in tiles(centers, len(centers)))


def find_links(
    centers: Float[np.ndarray, "n d"], sigma_drm: float, *, reach: int | None = None, thin: bool = True
) -> Links:
    """All pairs within `sigma_drm` and at most `reach` nodes apart.

    Args:
        centers: Unit rows.
        sigma_drm: Largest distance of a link.
        reach: Largest `second - first`; `None` = any.
        thin: Whether links that change no component may be left out where there are millions. The shortest that
            hold each component together always stay.
    """
    found: list[Links] = []
    held = 0
    for top, left, tile in tiles(centers, len(centers) if reach is None else reach):
        if not tile.size or not is_same(tile.min(keepdims=True), sigma_drm):
            continue
        row, column = np.nonzero(is_same(tile, sigma_drm))
        found.append(Links(row + top, column + left, np.maximum(tile[row, column], 0)))
        held += len(row)
        if thin and held > _TOO_MANY:
            found = [shortest_forest(len(centers), Links.joined(found))]
            held = len(found[0])
    return Links.joined(found)
