"""Computes all scores of one model on one data set."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, Progress, Ranking, device_memory_errors
from reappear.metrics import (
    GalleryFactory,
    NumpyGallery,
    RankedLists,
    RetrievalTask,
    interval,
    most_seen,
    rank_task,
    reranked,
    score_cameras,
    top,
    verify,
)
from reappear.pipeline.record import Outcome
from reappear.store import atomic_write, write_text

from .settings import EvaluateSettings
from .vectors import LabelledEmbeddings

Tree = dict[str, Any]

OWN_IMAGES = "queries are in the gallery too; each was left out of its own ranking"
_SHOWN_PEOPLE, _SHOWN_IMAGES = 12, 12


def score(
    query: LabelledEmbeddings,
    gallery: LabelledEmbeddings,
    settings: EvaluateSettings,
    description: dict[str, str],
    dropped: dict[str, int],
    staging: Path,
    *,
    progress: Progress,
) -> Outcome:
    """Writes scores.json and ranking.npz into `staging`.

    Args:
        query: Query embeddings with labels.
        gallery: Gallery embeddings with labels.
        settings: Protocol and the scores to compute.
        description: Name, model, data and extractor, copied into scores.json.
        dropped: Reason → images that were left out.
        staging: Folder to write into.
        progress: Progress listener.
    """
    known = not any((np.asarray(part.camera) == -1).any() for part in (query, gallery))
    task = RetrievalTask.of(
        query.vectors,
        gallery.vectors,
        query_ids=query.identity,
        gallery_ids=gallery.identity,
        query_cameras=query.camera if known else None,
        gallery_cameras=gallery.camera if known else None,
        query_images=query.image,
        gallery_images=gallery.image,
        protocol=settings.protocol,
        gallery_includes_query=settings.gallery_includes_query,
        seed=settings.seed,
    )
    if task.own_images:
        dropped = dropped | {OWN_IMAGES: task.own_images}
        progress.note(f"{description['name']}: {OWN_IMAGES}: {task.own_images:,}")
    memory = settings.memory_mb
    backend = cosine = _backend(settings.device)
    advice = f"lower memory_mb, which is {memory}, or set device cpu; the result is the same"
    with device_memory_errors(advice), progress.task(f"ranking {description['name']}", None, "query"):
        if settings.rerank:
            backend = reranked(task, k1=settings.k1, k2=settings.k2, weight=settings.weight, memory_mb=memory)
        ranking = rank_task(task, draws=settings.draws, ranks=settings.ranks, memory_mb=memory, backend=backend)
        lists = top(task, length=settings.top, memory_mb=memory, backend=backend)
        spread = {
            key: interval(values, task.query_ids, draws=settings.bootstrap, seed=settings.seed)
            for key, values in (("mean_ap", ranking.average_precision), ("rank_1", ranking.first_right))
        }
        # Verification and camera scores use cosine distances, not re-ranked ones.
        pairs, arrays = _verification(task, settings, cosine)
        cameras = asdict(score_cameras(task, memory_mb=memory, backend=cosine)) if known else None
    valid = int(ranking.valid.sum())
    scores: Tree = {
        **description,
        "label": description["model"] + ("+flip" if settings.flip else "") + ("+rerank" if settings.rerank else ""),
        "protocol": settings.protocol,
        "split": settings.split,
        "identities": settings.identities,
        "flip": settings.flip,
        "rerank": settings.rerank,
        "mean_ap": ranking.mean_ap,
        "mean_inp": ranking.mean_inp,
        "cmc": ranking.cmc.tolist(),
        "intervals": {key: [of.low, of.high] for key, of in spread.items()},
        "queries": len(task.query_ids),
        "valid_queries": valid,
        "people": len(np.unique(task.query_ids[ranking.valid])),
        "reasons": ranking.reasons,
        "gallery": len(task.gallery_ids),
        "skipped": dropped,
        "verification": pairs,
        "cameras": cameras and {key: _plain(value) for key, value in cameras.items()},
    }
    _save_ranking(staging / "ranking.npz", task, query, gallery, ranking, lists, arrays)
    write_text(staging / "scores.json", json.dumps(scores, indent=2, allow_nan=False) + "\n")
    return Outcome(
        counts={
            "queries": len(task.query_ids),
            "valid_queries": valid,
            "gallery": len(task.gallery_ids),
            "mean_ap": ranking.mean_ap,
            "mean_inp": ranking.mean_inp,
            "rank_1": float(ranking.cmc[0]),
        },
        dropped=dropped | ranking.reasons,
        made=valid,
    )


def _save_ranking(
    path: Path,
    task: RetrievalTask,
    query: LabelledEmbeddings,
    gallery: LabelledEmbeddings,
    ranking: Ranking,
    lists: RankedLists,
    pairs: dict[str, Any],
) -> None:
    """Writes ranking.npz: scores of each query, its ranked list, distances of pairs, and vectors of some people."""
    paths = gallery.path
    if len(task.gallery_ids) > len(paths):  # under "video" the queries joined the gallery
        paths = np.concatenate([paths, query.path])
    rows = _shown(task)
    with atomic_write(path) as staging, staging.open("wb") as file:
        np.savez(
            file,
            query_path=query.path,
            gallery_path=paths,
            query_ids=task.query_ids,
            gallery_ids=task.gallery_ids,
            query_cameras=task.query_cameras,
            gallery_cameras=task.gallery_cameras,
            top=lists.index,
            hit=lists.hit,
            distance=lists.distance,
            ap=ranking.average_precision,
            first_right=ranking.first_right,
            first_hit=ranking.first_hit,
            shown_ids=np.concatenate([task.query_ids, task.gallery_ids])[rows],
            shown_cameras=np.concatenate([task.query_cameras, task.gallery_cameras])[rows],
            shown_vectors=_vectors(task, rows),
            **pairs,
        )


def _backend(device: str) -> GalleryFactory:
    if device == "cpu":
        return NumpyGallery
    import torch

    from reappear.pipeline.torch_gallery import TorchGallery

    if not torch.cuda.is_available():
        raise InputError("device: there is no CUDA device here; leave it out, or see `reappear doctor`")
    return partial(TorchGallery, device=device)


def _verification(
    task: RetrievalTask, settings: EvaluateSettings, backend: GalleryFactory
) -> tuple[Tree | None, dict[str, Any]]:
    try:
        found = verify(task, memory_mb=settings.memory_mb, backend=backend)
    except InputError:  # such as a gallery of one person
        return None, {}
    same, others = found.matches.sum(axis=0), found.others.sum(axis=0)
    points = [found.at(rate, draws=settings.bootstrap, seed=settings.seed) for rate in settings.false_match]
    scores = {
        "pairs_of_one_person": int(same.sum()),
        "pairs_of_strangers": int(others.sum()),
        "area": found.area,
        "equal_error_rate": found.equal_error_rate,
        "points": [asdict(point) for point in points],
    }
    return scores, {"edges": found.edges, "same": same, "others": others}


def _shown(task: RetrievalTask) -> Int[np.ndarray, " n"]:
    """Rows of queries, then gallery, of people to be drawn: those seen by most cameras, then most often."""
    ids = np.concatenate([task.query_ids, task.gallery_ids])
    cameras = np.concatenate([task.query_cameras, task.gallery_cameras])
    in_both = np.isin(ids, np.intersect1d(task.query_ids, task.gallery_ids))
    people = most_seen(np.where(in_both, ids, -1), cameras, _SHOWN_PEOPLE)
    rows = [np.flatnonzero(ids == who) for who in people]
    return np.concatenate(
        [some[np.unique(np.linspace(0, len(some) - 1, _SHOWN_IMAGES).astype(int))] for some in rows]
        or [np.zeros(0, np.int64)]
    )


def _vectors(task: RetrievalTask, rows: Int[np.ndarray, " n"]) -> np.ndarray:
    asked = rows < len(task.query)
    out = np.empty((len(rows), task.query.shape[1]), np.float32)
    out[asked], out[~asked] = task.query[rows[asked]], task.gallery[rows[~asked] - len(task.query)]
    return out


def _plain(values: np.ndarray) -> list[Any]:
    """Nested lists for JSON, with null for NaN."""
    return [_plain(row) if row.ndim else None if np.isnan(row) else row.item() for row in values]
