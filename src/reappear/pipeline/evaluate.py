"""evaluate: an extractor and a labelled set → how well it finds people again."""

import hashlib
import json
from collections import Counter
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

from reappear.core import SILENT, ImageTable, InputError, Progress, SettingsError, settings
from reappear.data import read
from reappear.metrics import Search, rank_search, top
from reappear.models.extractors import ColorSettings, Extractor, ExtractorSettings
from reappear.store import write_text, writing

from .embed import embed_images
from .record import Outcome, Record, run_step
from .workspace import Workspace


@settings
class EvaluateSettings:
    """Who is examined, and by which rules."""

    extractor: Annotated[ExtractorSettings, "who turns an image into a vector"] = field(default_factory=ColorSettings)
    protocol: Annotated[
        Literal["market", "cross-camera", "no-camera"],
        "market: the same person in the query's own camera is passed over; cross-camera: everybody in the query's own "
        "camera is; no-camera: nobody is",
    ] = "market"
    ranks: Annotated[int, "length of the CMC"] = 50
    top: Annotated[int, "gallery images kept of each ranked list, for pictures"] = 10
    batch: Annotated[int, "images at a time"] = 64
    flip: Annotated[bool, "add the vector of the mirrored image"] = False
    memory_mb: Annotated[int, "memory for similarities, in MB"] = 512


def evaluate(
    work: Workspace, name: str, settings: EvaluateSettings, *, data: Path, progress: Progress = SILENT
) -> Record:
    """Ranks the gallery of a set in Market-1501's layout and writes evaluations/NAME/{scores.json, ranking.npz}.

    Args:
        work: The workspace.
        name: Name of the evaluation.
        settings: Extractor and protocol.
        data: Folder with `query` and `bounding_box_test`.
        progress: Who is told.

    Raises:
        InputError: A split is empty, cameras are missing or there is but one, or no query has a match.
    """
    for key in ("ranks", "top", "batch", "memory_mb"):
        if getattr(settings, key) < 1:
            raise SettingsError(f"{key}: must be 1 or more, got {getattr(settings, key)}")
    table = read("market1501", data.resolve())
    _check(table, settings.protocol, data)
    files = {f"extractor.{key}": path for key, path in settings.extractor.files.items()}
    return run_step(
        work.evaluation(name),
        step="evaluate",
        settings=settings,
        inputs={"data": _fingerprint(table), **files},
        work=lambda aside: _evaluate(table, name, settings, aside, progress),
        progress=progress,
    )


def _evaluate(table: ImageTable, name: str, settings: EvaluateSettings, aside: Path, progress: Progress) -> Outcome:
    dropped = Counter(table.skipped.values())
    extractor = settings.extractor.build()
    query, query_vectors = _embed(table.where("query"), extractor, settings, dropped, progress)
    gallery, gallery_vectors = _embed(table.where("gallery"), extractor, settings, dropped, progress)
    search = Search.of(
        query_vectors,
        gallery_vectors,
        query_ids=query.identity,
        gallery_ids=gallery.identity,
        query_cameras=query.camera,
        gallery_cameras=gallery.camera,
        protocol=settings.protocol,
    )
    ranking = rank_search(search, ranks=settings.ranks, memory_mb=settings.memory_mb)
    lists = top(search, length=settings.top, memory_mb=settings.memory_mb)
    valid = int(ranking.valid.sum())
    scores = {
        "name": name,
        "extractor": extractor.name,
        "protocol": settings.protocol,
        "mean_ap": ranking.mean_ap,
        "mean_inp": ranking.mean_inp,
        "cmc": ranking.cmc.tolist(),
        "queries": len(query),
        "valid_queries": valid,
        "reasons": ranking.reasons,
        "gallery": len(gallery),
        "skipped": dict(dropped),
    }
    with writing(aside / "ranking.npz") as path, path.open("wb") as file:
        np.savez(
            file,
            query_path=query.path,
            gallery_path=gallery.path,
            top=lists.index,
            hit=lists.hit,
            distance=lists.distance,
            ap=ranking.average_precision,
        )
    write_text(aside / "scores.json", json.dumps(scores, indent=2) + "\n")
    progress.note(f"{name}: mAP {ranking.mean_ap:.3f}, rank 1 {ranking.cmc[0]:.3f} over {valid} queries")
    return Outcome(
        counts={
            "queries": len(query),
            "valid_queries": valid,
            "gallery": len(gallery),
            "mean_ap": ranking.mean_ap,
            "mean_inp": ranking.mean_inp,
            "rank_1": float(ranking.cmc[0]),
        },
        dropped=dict(dropped) | ranking.reasons,
    )


def _embed(
    table: ImageTable, extractor: Extractor, settings: EvaluateSettings, dropped: Counter[str], progress: Progress
) -> tuple[ImageTable, Float[np.ndarray, "n d"]]:
    """The images that can be embedded, and their unit vectors."""
    split = table.split[0]
    vectors = []
    with progress.task(f"embedding the {split} with {extractor.name}", len(table)) as tick:
        for begin in range(0, len(table), settings.batch):
            images = [_read(Path(path)) for path in table.path[begin : begin + settings.batch]]
            some, failed = embed_images(images, extractor, flip=settings.flip)
            vectors.append(some)
            dropped.update(failed)
            tick(len(images))
    rows = np.concatenate(vectors)
    good = np.flatnonzero(rows.any(1))
    if not len(good):
        raise InputError(f"no image of the {split} can be read, first {table.path[0]}; check the files")
    kept = ImageTable(
        table.path[good], table.identity[good], table.camera[good], table.sequence[good], table.split[good]
    )
    return kept, rows[good]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # counted with the images that cannot be decoded


def _check(table: ImageTable, protocol: str, data: Path) -> None:
    for split, folder in (("query", "query"), ("gallery", "bounding_box_test")):
        if not (table.split == split).any():
            raise InputError(
                f"{data / folder} is missing or holds no images; an evaluation needs queries and a gallery"
            )
    camera = table.camera[table.split != "train"]
    if protocol != "no-camera" and (camera < 0).any():
        path = table.path[table.split != "train"][camera < 0][0]
        raise InputError(
            f"{path}: the name says no camera (as in 0002_c1s1_000451_03.jpg), which the protocol {protocol} needs; "
            f"rename the files, or choose the protocol no-camera"
        )
    if protocol != "no-camera" and len(np.unique(camera)) == 1:
        raise InputError(
            f"{data}: all images are of camera {camera[0]}, and the protocol {protocol} looks for people in other "
            f"cameras; choose the protocol no-camera"
        )


def _fingerprint(table: ImageTable) -> str:
    """Stands for the images: their names and sizes."""
    digest = hashlib.sha256()
    for path in table.path[table.split != "train"]:
        digest.update(f"{Path(path).parent.name}/{Path(path).name} {Path(path).stat().st_size}\n".encode())
    return digest.hexdigest()[:16]
