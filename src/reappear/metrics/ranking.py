"""Query and gallery: CMC, mAP, mINP, and the first of each ranked list."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import InputError, Ranking, SettingsError

from .gallery import Gallery, GalleryFactory, NumpyGallery
from .retrieval_task import RankingProtocol, RetrievalTask

_ABSENT = "its person is not in the gallery"
_SAME_CAMERA = "its person is in the gallery only where the protocol does not look: in the query's own camera"
_OWN_IMAGE = "its person is in the gallery only as the query's own image"
_JUNK = "the query is junk (identity -1)"


def rank(
    query: Float[np.ndarray, "q d"],
    gallery: Float[np.ndarray, "g d"],
    *,
    query_ids: Int[np.ndarray, " q"],
    gallery_ids: Int[np.ndarray, " g"],
    query_cameras: Int[np.ndarray, " q"] | None = None,
    gallery_cameras: Int[np.ndarray, " g"] | None = None,
    query_images: Int[np.ndarray, " q"] | None = None,
    gallery_images: Int[np.ndarray, " g"] | None = None,
    protocol: RankingProtocol | None = None,
    gallery_includes_query: bool = True,
    ranks: int = 50,
    seed: int = 0,
) -> Ranking:
    """Ranks the gallery for each query by cosine similarity and scores the ranking.

    `rank_task` does the same with a choice of memory, of a GPU, and of the number of draws.

    Average precision is plain: the mean over hits of the precision at the hit, as TransReID, FastReID and
    Cluster-Contrast have it (not the trapezoids of the first Market-1501 code). INP is the number of hits over the rank
    of the last (Ye et al. 2021). Gallery images of identity -1 are junk and never ranked; people without a query
    (distractors, such as Market's 0000) are wrong answers like any other. Similarities closer than 1e-6, the
    resolution of float32, are ties, and a tie is lost: wrong answers come first. So the result depends on no order,
    and features that are all alike score worst instead of by luck. Where features nearly coincide, their mean is
    subtracted first, and what counts as a tie shrinks with their distances, down to 1e-12.

    Ranks are counted: the place of a match is the number of images at least as similar.

    Args:
        query: Features, of any length.
        gallery: Features, of any length; copied only where they are not float32, or nearly coincide.
        query_ids: Who is asked for; -1 = junk, never valid. Whole numbers of any dtype.
        gallery_ids: Who is there; -1 = junk, never ranked.
        query_cameras: Camera of each query; -1 = unknown.
        gallery_cameras: Camera of each gallery image.
        query_images: Under "no-camera": a key of each image, such as a hash of its file. A gallery row with the key of
            the query is the query itself, and is passed over. -1 = unknown: rows of one person with identical features
            are the same image then.
        gallery_images: Likewise.
        protocol: "market": the same person in the query's own camera is passed over. "cross-camera": everybody in the
            query's own camera is. "no-camera": only the query's own image. "video": "market" for tracklets,
            whose gallery holds the queries too (GRL; 1,980 + 9,330 on MARS). "cuhk03-single-gallery-shot":
            "cross-camera" against one image drawn of each person, the mean over 10 galleries (the protocol of
            CUHK03 before its new split).
            `None`: "market" with cameras, "no-camera" without.
        gallery_includes_query: Under "video": whether queries join the gallery. torchreid's convention is not to.
        ranks: Length of the CMC.
        seed: Of the galleries that are drawn.

    Raises:
        InputError: A column has a wrong length, kind or value, cameras are missing or there is but one, features are
            not finite, or no query has a match. The message states what to do.
    """
    task = RetrievalTask.of(
        query,
        gallery,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        query_images=query_images,
        gallery_images=gallery_images,
        protocol=protocol,
        gallery_includes_query=gallery_includes_query,
        seed=seed,
    )
    return rank_task(task, ranks=ranks)


def rank_task(
    task: RetrievalTask,
    *,
    draws: int = 10,
    ranks: int = 50,
    memory_mb: int = 256,
    backend: GalleryFactory = NumpyGallery,
) -> Ranking:
    """As `rank`, for a task that is already checked.

    Args:
        task: Query, gallery and protocol.
        draws: Under "cuhk03-single-gallery-shot": how many galleries are drawn.
        ranks: Length of the CMC.
        memory_mb: Bound of what is held at once beside the features, but at least one row of the gallery.
        backend: What compares: numpy, or a GPU (`pipeline.torch_gallery`).
    """
    for name, value in (("ranks", ranks), ("draws", draws)):
        if value < 1:
            raise SettingsError(f"{name}: must be 1 or more, got {value}")
    held = task.build(backend)
    galleries = draws if task.protocol == "cuhk03-single-gallery-shot" else 1
    return _mean([_score(replace(task, draw=draw), held, ranks, memory_mb) for draw in range(galleries)])


def _score(task: RetrievalTask, held: Gallery, ranks: int, memory_mb: int) -> Ranking:
    count = len(task.query_ids)
    average, penalty, first = (np.full(count, np.nan) for _ in range(3))
    reasons: Counter[str] = Counter()
    for block in task.blocks(memory_mb):
        wrong = held.wrong_before(block)
        matches = (wrong >= 0).sum(axis=1)
        for row in np.flatnonzero(matches == 0):
            reasons[_why_not(task, int(block.number[row]), block.same[row])] += 1
        some = np.flatnonzero(matches)
        if not len(some):
            continue
        number, wrong, matches = block.number[some], wrong[some], matches[some]
        place = np.arange(1, wrong.shape[1] + 1)
        rank = place + wrong
        average[number] = np.where(wrong >= 0, place / rank, 0).sum(axis=1) / matches
        penalty[number] = matches / rank[np.arange(len(some)), matches - 1]
        first[number] = rank[:, 0]
    valid = ~np.isnan(average)
    if not valid.any():
        counted = "; ".join(f"{reason}: {times}" for reason, times in reasons.items())
        raise InputError(
            f"no query has a match in the gallery under the protocol {task.protocol} ({counted}); "
            f"check that identities and cameras of both mean the same"
        )
    return Ranking(
        cmc=np.searchsorted(np.sort(first[valid]), np.arange(1, ranks + 1), side="right") / valid.sum(),
        mean_ap=float(average[valid].mean()),
        mean_inp=float(penalty[valid].mean()),
        average_precision=average,
        inverse_negative_penalty=penalty,
        first_right=np.where(valid, first == 1, np.nan),
        first_hit=first,
        valid=valid,
        reasons=dict(reasons),
    )


def _why_not(task: RetrievalTask, number: int, same: Int[np.ndarray, " m"]) -> str:
    """Why a query has no match that it may find."""
    if task.query_ids[number] < 0:
        return _JUNK
    if not (task.gallery_ids[same[same >= 0]] == task.query_ids[number]).any():
        return _ABSENT
    return _OWN_IMAGE if task.protocol == "no-camera" else _SAME_CAMERA


def _mean(shots: list[Ranking]) -> Ranking:
    """Of rankings of the same queries against different draws."""

    def over(name: str) -> Any:
        return np.mean([getattr(shot, name) for shot in shots], axis=0)

    return Ranking(
        cmc=over("cmc"),
        mean_ap=float(over("mean_ap")),
        mean_inp=float(over("mean_inp")),
        average_precision=over("average_precision"),
        inverse_negative_penalty=over("inverse_negative_penalty"),
        first_right=over("first_right"),
        first_hit=over("first_hit"),
        valid=shots[0].valid,
        reasons=shots[0].reasons,
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
    task: RetrievalTask, *, length: int = 10, memory_mb: int = 256, backend: GalleryFactory = NumpyGallery
) -> RankedLists:
    """The first `length` gallery images of each query, for pictures.

    Of equally similar images the earlier row comes first: here a list has to be shown, not judged. Where a protocol
    draws galleries, the first draw is shown.
    """
    if length < 1:
        raise SettingsError(f"length: must be 1 or more, got {length}")
    held = task.build(backend)
    index = np.full((len(task.query_ids), length), -1, np.int64)
    distance = np.full(index.shape, np.nan, np.float32)
    for block in task.blocks(memory_mb):
        index[block.number], distance[block.number] = held.nearest(block, length)
    hit = (index >= 0) & (task.gallery_ids[index] == task.query_ids[:, None])
    return RankedLists(index, distance, hit)
