"""How similar some tracklets of a workspace are to their nearest, and how likely these are one person by the links."""

import numpy as np
from jaxtyping import Float

from reappear.core import counted, read_json_object
from reappear.denoise import SightingProbability, pair_probability
from reappear.denoise.normalize import COHORT, cohort_statistics
from reappear.store import CropStore, read_table

from .workspace import Workspace

_FEWEST, _MOST = 32, 400  # tracklets looked at
_PRODUCTS = 25_000_000  # of crops and tracklets looked at, where there are many crops


class Calibration:
    """Searches for some tracklets of a workspace beside the query, and learns from who they are linked to.

    Attributes:
        lacking: Why there are no probabilities; empty where there are.
        queries: A unit vector of each tracklet looked at: that of its middle crop.
    """

    def __init__(self, work: Workspace, name: str | None, store: CropStore, vectors: Float[np.ndarray, "n d"]) -> None:
        self.queries = np.zeros((0, vectors.shape[1]), np.float32)
        self.lacking = "there are no identities; run `reappear correlate`"
        if name is None:
            return
        folder = work.finished_identities(name)
        self._links = read_table(folder / "links.parquet")
        self._identity = np.asarray(read_table(folder / "tracklets.parquet", "identity")["identity"], np.int64)
        stages = read_json_object(folder / "report.json", "stages")["stages"]
        skipped = [row["skipped_neighbors"] for row in stages if "skipped_neighbors" in row]
        if not skipped or not np.isfinite(self._links.get("probability", np.zeros(0))).any():
            self.lacking = f"no link of identities {name} has one, as those of --linking average have"
            return
        self._skip, self._nearest = int(skipped[-1]), int(skipped[-1]) + COHORT
        some = np.flatnonzero(self._identity >= 0)
        most = int(np.clip(_PRODUCTS // max(1, len(vectors)), _FEWEST, _MOST))
        some = some[np.linspace(0, len(some) - 1, min(most, len(some))).round().astype(np.int64)]
        queries = np.asarray(vectors[(store.offsets[some] + store.offsets[some + 1]) // 2], np.float32)
        known = queries.any(axis=1)
        self._tracklet, self.queries, self.lacking = some[known], queries[known], ""
        self._cosine = np.full((len(self.queries), self._nearest), -np.inf, np.float32)
        self._found = np.full(self._cosine.shape, -1, np.int64)

    def add(self, first: int, cosine: Float[np.ndarray, "t q"]) -> None:
        """Takes in the cosine similarities of the queries to the tracklets from `first` on."""
        own = self._tracklet - first
        here = np.flatnonzero((own >= 0) & (own < len(cosine)))
        cosine[own[here], here] = -np.inf
        every = np.concatenate([self._cosine, cosine.T], axis=1)
        number = np.broadcast_to(first + np.arange(len(cosine)), cosine.T.shape)
        best = np.argpartition(-every, self._nearest - 1, axis=1)[:, : self._nearest]
        self._cosine = np.take_along_axis(every, best, axis=1)
        self._found = np.take_along_axis(np.concatenate([self._found, number], axis=1), best, axis=1)

    def probability(
        self, nearest: Float[np.ndarray, " t"], cosine: Float[np.ndarray, " m"]
    ) -> Float[np.ndarray, " m"] | None:
        """How likely sightings are the person of the query, 0..1; None where too few tracklets are known.

        Args:
            nearest: Cosine similarities of the query to all tracklets but its own; -inf = unknown.
            cosine: Those of the sightings.
        """
        order = np.argsort(-self._cosine, axis=1, kind="stable")
        known = np.take_along_axis(self._cosine, order, axis=1)
        mean, deviation = cohort_statistics(known, self._skip)
        z = (known - mean[:, None]) / deviation[:, None]
        one, other = np.broadcast_to(self._tracklet[:, None], z.shape), np.take_along_axis(self._found, order, axis=1)
        usable = np.isfinite(z) & (other >= 0)
        sure = pair_probability(one[usable], other[usable], self._identity, self._links)
        z, sure = z[usable][np.isfinite(sure)], sure[np.isfinite(sure)]
        own = np.partition(-nearest, min(self._nearest, len(nearest) - 1))[: self._nearest]
        (middle,), (width,) = cohort_statistics(-np.sort(own)[None], self._skip)
        if not len(z) or np.isnan(middle):
            self.lacking = f"too few to compare with: {counted(len(nearest), 'tracklet')}"
            return None
        return SightingProbability.fit(z, sure).at((cosine - middle) / width)
