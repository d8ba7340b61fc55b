"""Query and gallery: CMC, mAP, mINP, and the first of each ranked list."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import InputError, Ranking, SettingsError, unit_rows

Protocol = Literal["market", "cross-camera", "no-camera"]

_TIE = 1e-6
_ABSENT = "its person is not in the gallery"
_SAME_CAMERA = "its person is in the gallery only where the protocol does not look: in the query's own camera"
_JUNK = "the query is junk (identity -1)"


def rank(
    query: Float[np.ndarray, "q d"],
    gallery: Float[np.ndarray, "g d"],
    *,
    query_ids: Int[np.ndarray, " q"],
    gallery_ids: Int[np.ndarray, " g"],
    query_cameras: Int[np.ndarray, " q"] | None = None,
    gallery_cameras: Int[np.ndarray, " g"] | None = None,
    protocol: Protocol | None = None,
    ranks: int = 50,
    memory_mb: int = 512,
) -> Ranking:
    """Ranks the gallery for each query by cosine similarity and scores the ranking.

    Average precision is plain: the mean over hits of the precision at the hit, as TransReID, FastReID and
    Cluster-Contrast have it (not the trapezoids of the first Market-1501 code). INP is the number of hits over the rank
    of the last (Ye et al. 2021). Gallery images of identity -1 are junk and never ranked; people nobody asks for
    (distractors, such as Market's 0000) are wrong answers like any other. Similarities closer than 1e-6, the
    resolution of float32, are ties, and a tie is lost: wrong answers come first. So the result depends on no order,
    and features that are all alike score worst instead of by luck.

    Args:
        query: Features, normalised here.
        gallery: Features, normalised here.
        query_ids: Who is asked for.
        gallery_ids: Who is there; -1 = junk.
        query_cameras: Camera of each query.
        gallery_cameras: Camera of each gallery image.
        protocol: "market": the same person in the query's own camera is passed over. "cross-camera": everybody in the
            query's own camera is. "no-camera": nobody is. `None`: "market" with cameras, "no-camera" without.
        ranks: Length of the CMC.
        memory_mb: Bound of what is held at once beside the features.

    Raises:
        InputError: A column has a wrong length, cameras are missing, or no query has a match.
    """
    if ranks < 1:
        raise SettingsError(f"ranks: must be 1 or more, got {ranks}")
    task = _Task.of(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras, protocol)
    count = len(query_ids)
    average = np.full(count, np.nan)
    penalty = np.full(count, np.nan)
    hits = np.zeros(ranks, np.int64)
    reasons: dict[str, int] = {}
    for number, similarity in task.rows(memory_mb):
        same = task.same_person(number)
        matches = same[task.findable(number, same)]
        if not len(matches):
            reason = _JUNK if task.query_ids[number] == -1 else _SAME_CAMERA if len(same) else _ABSENT
            reasons[reason] = reasons.get(reason, 0) + 1
            continue
        found = np.sort(similarity[matches])[::-1]
        # Wrong answers before each hit are counted, not sorted: all that are at least as similar, less the person's.
        bar = found - np.float32(_TIE)
        before = _at_least(similarity, bar) - _at_least(similarity[same], bar)
        place = np.arange(1, len(found) + 1)
        at = place + before
        average[number] = np.mean(place / at)
        penalty[number] = len(found) / at[-1]
        hits[at[0] - 1 :] += 1
    valid = ~np.isnan(average)
    if not valid.any():
        said = "; ".join(f"{reason}: {times}" for reason, times in reasons.items()) or "there are no queries"
        raise InputError(f"no query has a match in the gallery under the protocol {task.protocol} ({said})")
    return Ranking(
        cmc=hits / valid.sum(),
        mean_ap=float(average[valid].mean()),
        mean_inp=float(penalty[valid].mean()),
        average_precision=average,
        inverse_negative_penalty=penalty,
        valid=valid,
        reasons=reasons,
    )


@dataclass(frozen=True)
class RankedLists:
    """The first of the gallery for each query, nearest first.

    Attributes:
        index: Gallery rows; -1 where the gallery is shorter than the list.
        distance: Cosine distance; NaN where there is no image.
        hit: Whether it shows the query's person.
    """

    index: Int[np.ndarray, "q k"]
    distance: Float[np.ndarray, "q k"]
    hit: Bool[np.ndarray, "q k"]


def top(
    query: Float[np.ndarray, "q d"],
    gallery: Float[np.ndarray, "g d"],
    *,
    query_ids: Int[np.ndarray, " q"],
    gallery_ids: Int[np.ndarray, " g"],
    query_cameras: Int[np.ndarray, " q"] | None = None,
    gallery_cameras: Int[np.ndarray, " g"] | None = None,
    protocol: Protocol | None = None,
    length: int = 10,
    memory_mb: int = 512,
) -> RankedLists:
    """The first `length` gallery images of each query, for pictures; arguments as for `rank`.

    Of equally similar images the earlier row comes first: here a list has to be shown, not judged.
    """
    if length < 1:
        raise SettingsError(f"length: must be 1 or more, got {length}")
    task = _Task.of(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras, protocol)
    index = np.full((len(query_ids), length), -1, np.int64)
    distance = np.full((len(query_ids), length), np.nan, np.float32)
    for number, similarity in task.rows(memory_mb):
        same = task.same_person(number)
        similarity[same[~task.findable(number, same)]] = -np.inf
        bar = np.partition(similarity, -length)[-length] if length < len(similarity) else -np.inf
        near = np.flatnonzero(similarity >= bar)
        near = near[np.isfinite(similarity[near])]
        near = near[np.lexsort((task.original[near], -similarity[near]))][:length]
        index[number, : len(near)] = task.original[near]
        distance[number, : len(near)] = 1 - similarity[near]
    hit = (index >= 0) & (np.asarray(gallery_ids)[index] == np.asarray(query_ids)[:, None])
    return RankedLists(index, distance, hit)


@dataclass(frozen=True)
class _Task:
    """The gallery without junk, sorted by person, so that a query's person is one slice of each row."""

    query: Float[np.ndarray, "q d"]
    gallery: Float[np.ndarray, "g d"]
    query_ids: Int[np.ndarray, " q"]
    gallery_ids: Int[np.ndarray, " g"]
    query_cameras: Int[np.ndarray, " q"] | None
    gallery_cameras: Int[np.ndarray, " g"] | None
    original: Int[np.ndarray, " g"]
    protocol: Protocol

    @classmethod
    def of(
        cls,
        query: np.ndarray,
        gallery: np.ndarray,
        query_ids: np.ndarray,
        gallery_ids: np.ndarray,
        query_cameras: np.ndarray | None,
        gallery_cameras: np.ndarray | None,
        protocol: Protocol | None,
    ) -> "_Task":
        have_cameras = query_cameras is not None and gallery_cameras is not None
        protocol = protocol or ("market" if have_cameras else "no-camera")
        if protocol not in get_args(Protocol):
            raise SettingsError(f"protocol: must be one of {', '.join(get_args(Protocol))}, got {protocol!r}")
        if protocol != "no-camera" and not have_cameras:
            raise InputError(
                f"the protocol {protocol} needs query_cameras and gallery_cameras; give both, or choose no-camera"
            )
        if len(query) and len(gallery) and query.shape[1] != gallery.shape[1]:
            raise InputError(
                f"query features have {query.shape[1]} values and gallery features {gallery.shape[1]}; "
                f"embed both with one model"
            )
        for name, column, rows in (
            ("query_ids", query_ids, query),
            ("gallery_ids", gallery_ids, gallery),
            ("query_cameras", query_cameras, query),
            ("gallery_cameras", gallery_cameras, gallery),
        ):
            if column is not None and len(column) != len(rows):
                raise InputError(f"{name}: must have one value for each of {len(rows)} features, got {len(column)}")
        order = np.argsort(gallery_ids, kind="stable")
        order = order[np.searchsorted(np.asarray(gallery_ids)[order], 0) :]
        return cls(
            unit_rows(query, name="query"),
            unit_rows(gallery[order], name="gallery"),
            np.asarray(query_ids, np.int64),
            np.asarray(gallery_ids, np.int64)[order],
            None if query_cameras is None else np.asarray(query_cameras, np.int64),
            None if gallery_cameras is None else np.asarray(gallery_cameras, np.int64)[order],
            order,
            protocol,
        )

    def rows(self, memory_mb: int) -> Iterator[tuple[int, Float[np.ndarray, " g"]]]:
        """Each query's number and its similarity to all of the gallery; -inf where the protocol does not look."""
        step = max(1, memory_mb * (1 << 20) // (8 * max(1, len(self.gallery))))
        for begin in range(0, len(self.query), step):
            block = self.query[begin : begin + step] @ self.gallery.T
            for offset, row in enumerate(block):
                if self.protocol == "cross-camera" and self.query_cameras is not None:
                    row[self.gallery_cameras == self.query_cameras[begin + offset]] = -np.inf
                yield begin + offset, row

    def same_person(self, number: int) -> Int[np.ndarray, " s"]:
        """Gallery rows of the query's person."""
        who = self.query_ids[number]
        begin, end = np.searchsorted(self.gallery_ids, (who, who + 1))
        return np.arange(begin, end)

    def findable(self, number: int, same: Int[np.ndarray, " s"]) -> Bool[np.ndarray, " s"]:
        """Which of them the protocol looks at."""
        if self.protocol == "no-camera" or self.query_cameras is None or self.gallery_cameras is None:
            return np.ones(len(same), bool)
        return np.asarray(self.gallery_cameras[same] != self.query_cameras[number])


def _at_least(similarity: Float[np.ndarray, " n"], bars: Float[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """How many similarities reach each of the falling `bars`."""
    near = similarity[similarity >= bars[-1]]
    first = np.searchsorted(-bars, -near, side="left")  # the first bar that each of them reaches
    return np.cumsum(np.bincount(first, minlength=len(bars)))
