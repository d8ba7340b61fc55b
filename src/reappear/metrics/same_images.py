"""The same image among queries and gallery: without cameras it would be its own nearest answer."""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

_POSITIVE = (1 << 63) - 1


def digests(contents: Iterable[bytes]) -> Int[np.ndarray, " n"]:
    """A key for each of some byte strings, equal where these are; 0 or more."""
    keys = (int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") & _POSITIVE for data in contents)
    return np.fromiter(keys, np.int64)


def feature_keys(
    query: Float[np.ndarray, "q d"],
    gallery: Float[np.ndarray, "g d"],
    query_ids: Int[np.ndarray, " q"],
    gallery_ids: Int[np.ndarray, " g"],
) -> tuple[Int[np.ndarray, " q"], Int[np.ndarray, " g"]]:
    """Keys of images by their features: rows with identical values have the same key.

    A row of features that several people share identifies no image, as of a model whose features are all alike: -1.
    """
    keys = digests((row + np.float32(0)).tobytes() for rows in (query, gallery) for row in rows)  # +0: for -0 is 0
    ids = np.concatenate([query_ids, gallery_ids])
    people = np.unique(np.stack([keys, ids])[:, ids >= 0], axis=1)[0]
    distinct, count = np.unique(people, return_counts=True)
    keys = np.where(np.isin(keys, distinct[count == 1]), keys, -1)
    return keys[: len(query)], keys[len(query) :]


class RowsByKey:
    """Looks up the gallery rows of keys.

    Args:
        keys: One of each gallery row; negative = none.
    """

    def __init__(self, keys: Int[np.ndarray, " g"]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def find(self, keys: Int[np.ndarray, " b"]) -> Int[np.ndarray, "b m"]:
        """The rows of each key in rising order, filled up with -1; none of a negative key."""
        begin, end = (np.searchsorted(self._keys, keys, side=side) for side in ("left", "right"))
        count = np.where(keys < 0, 0, end - begin)
        slot = begin[:, None] + np.arange(count.max(initial=0))
        there = slot < (begin + count)[:, None]
        return np.where(there, self._order[np.minimum(slot, len(self._order) - 1)], -1)
