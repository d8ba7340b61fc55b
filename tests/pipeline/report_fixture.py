"""A small workspace as the steps would leave it, drawn and made up in about a second."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from reappear.core import Assignment, generator
from reappear.pipeline.record import Record
from reappear.pipeline.workspace import Workspace
from reappear.store import Identities, ShardWriter, shard_path, write_embeddings, write_identities, write_table

STAGES = ("tracklet = person", "single-tracklet", "single-video", "cross-video")
ALL = ("crops", "embeddings", "identities", "models", "evaluations")
DESCRIPTORS = {
    "untrained": 0.05,
    "instance": 0.08,
    "tracklet": 0.11,
    "found": 0.16,
    "true_identity": 0.18,
    "color": 0.13,
}
_CAMERAS = ("c0", "c1", "c2")
_FILMS = 2
_WIDTH, _HEIGHT = 32, 64


@dataclass(frozen=True)
class _Look:
    skin: tuple[int, int, int]
    shirt: tuple[int, int, int]
    trousers: tuple[int, int, int]
    hair: tuple[int, int, int]
    stripes: bool


def build(
    root: Path,
    *,
    seed: int = 0,
    people: int = 18,
    parts: tuple[str, ...] = ALL,
    truth: bool = True,
    film_suffix: str = "",
    descriptors: dict[str, float] | None = None,
) -> Workspace:
    """Writes a workspace with the given parts."""
    work = Workspace(root)
    if "crops" not in parts:
        return work
    person, tracklet_of = _crops(work, seed, people, truth, film_suffix)
    rounds = ("round0", "round1")
    for number, name in enumerate(rounds):
        if "embeddings" in parts:
            _embeddings(work, name, person, spread=(0.95, 0.5)[number], seed=seed)
        if "identities" in parts:
            _identities(work, name, person, tracklet_of, mistakes=(0.3, 0.12)[number], seed=seed, truth=truth)
        if "models" in parts:
            _model(work, name, number, seed)
    if "embeddings" in parts:
        _embeddings(work, "round2", person, spread=0.35, seed=seed)
    if "models" in parts:
        _model(work, "instance", 2, seed)
    if "evaluations" in parts:
        for name, level in (descriptors or DESCRIPTORS).items():
            _evaluation(work, name, level, seed)
    return work


def draw(look: _Look, noise: np.random.Generator, cast: np.ndarray) -> bytes:
    """A figure in front of a wall, as JPEG."""
    image = np.full((_HEIGHT, _WIDTH, 3), (168, 172, 166), np.float32)
    image[46:] = (128, 124, 118)
    swing, x = int(noise.integers(-4, 5)), 16 + int(noise.integers(-2, 3))
    cv2.line(image, (x - 2, 36), (x - 3 - swing, 58), look.trousers, 5)
    cv2.line(image, (x + 2, 36), (x + 3 + swing, 58), look.trousers, 5)
    cv2.rectangle(image, (x - 7, 17), (x + 7, 37), look.shirt, -1)
    if look.stripes:
        for y in range(19, 37, 4):
            cv2.line(image, (x - 7, y), (x + 7, y), (235, 235, 230), 1)
    cv2.line(image, (x - 8, 19), (x - 9 + swing // 2, 35), look.shirt, 3)
    cv2.line(image, (x + 8, 19), (x + 9 - swing // 2, 35), look.shirt, 3)
    cv2.circle(image, (x, 11), 5, look.skin, -1)
    cv2.ellipse(image, (x, 9), (6, 4), 0, 180, 360, look.hair, -1)
    image = image * cast + noise.normal(0, 5, image.shape)
    ok, data = cv2.imencode(".jpg", np.clip(image[..., ::-1], 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert ok
    return bytes(data.tobytes())


def _look(person: int) -> _Look:
    draws = generator(7, "look", person)

    def some(low: int, high: int) -> tuple[int, int, int]:
        r, g, b = draws.integers(low, high, 3).tolist()
        return r, g, b

    skin = [(224, 184, 152), (150, 104, 74), (96, 66, 50)][person % 3]
    return _Look(skin, some(20, 240), some(20, 140), some(10, 110), person % 4 == 0)


def _cast(camera: int) -> np.ndarray:
    return np.asarray([(1.0, 1.0, 1.0), (1.1, 1.0, 0.88), (0.86, 0.95, 1.1)][camera % 3], np.float32)


def _record(folder: Path, step: str, *, counts=None, dropped=None, seconds: float = 1.0, settings=None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(
        step=step,
        fingerprint=f"{step}-{folder.name}",
        settings=settings or {"seed": 0},
        inputs={},
        counts=counts or {},
        dropped=dropped or {},
        seconds=seconds,
        peak_memory_mb=512.5,
        versions={"reappear": "0.1.0", "numpy": "2.0.0"},
    )
    (folder / "record.json").write_text(record.to_json())


def _crops(work: Workspace, seed: int, people: int, truth: bool, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    random = generator(seed, "crops")
    films = [(f"{camera}_{n:02d}{suffix}", c) for c, camera in enumerate(_CAMERAS) for n in range(_FILMS)]
    crops: dict[str, list[float]] = {
        key: []
        for key in (
            "video",
            "frame",
            "time",
            "left",
            "top",
            "right",
            "bottom",
            "score",
            "tracklet",
            "shard",
            "offset",
            "size",
            "truth",
        )
    }
    tracklets: dict[str, list[float]] = {key: [] for key in ("video", "start", "end", "crops")}
    posters = work.crops / "posters"
    posters.mkdir(parents=True)
    with ShardWriter(shard_path(work.crops, 0)) as shard:
        for video, (_, camera) in enumerate(films):
            wall = np.full((180, 288, 3), (150, 152, 148), np.uint8)
            wall[110:] = (105, 108, 112)
            for place, who in enumerate(sorted(random.permutation(people)[: max(2, people * 2 // 3)].tolist())):
                tracklet = len(tracklets["video"])
                length = int(random.integers(5, 12))
                start = round(float(random.random() * 60), 2)
                for i in range(length):
                    shown = int(random.integers(people)) if random.random() < 0.05 else who
                    data = draw(_look(shown), random, _cast(camera))
                    offset, size = shard.add(f"{len(crops['video']):08d}.jpg", data)
                    if i == 0 and place < 7:
                        figure = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                        wall[80 : 80 + _HEIGHT, 10 + place * 38 : 10 + place * 38 + _WIDTH] = figure
                    row = (
                        video,
                        round(start * 25) + 5 * i,
                        start + i / 5,
                        0.0,
                        0.0,
                        32.0,
                        64.0,
                        0.9,
                        tracklet,
                        0,
                        offset,
                        size,
                    )
                    for key, value in zip(crops, (*row, shown if truth else -1), strict=True):
                        crops[key].append(value)
                for key, value in zip(tracklets, (video, start, start + (length - 1) / 5, length), strict=True):
                    tracklets[key].append(value)
            cv2.imwrite(str(posters / f"{video:05d}.jpg"), wall)
    floats = {"time", "left", "top", "right", "bottom", "score", "start", "end"}
    for path, columns in (("crops", crops), ("tracklets", tracklets)):
        typed = {k: np.asarray(v, np.float64 if k in floats else np.int64) for k, v in columns.items()}
        write_table(work.crops / f"{path}.parquet", typed)
    n = len(films)
    write_table(
        work.crops / "videos.parquet",
        {
            "name": [name for name, _ in films],
            "path": [f"films/{name.replace('/', '_')}.mp4" for name, _ in films],
            "camera": [_CAMERAS[camera] + suffix for _, camera in films],
            "width": np.full(n, 288),
            "height": np.full(n, 180),
            "rate": np.full(n, 25.0),
            "frames": np.full(n, 1500),
            "seconds": np.full(n, 60.0),
            "sha256": ["0"] * n,
            "truth": np.full(n, truth),
        },
    )
    _record(
        work.crops,
        "ingest",
        counts={"videos": n, "tracklets": len(tracklets["video"]), "crops": len(crops["video"])},
        dropped={"too_small": 12 + seed, "cut_by_border": 7},
        seconds=41.25 + seed,
    )
    who_at = np.asarray(crops["truth"], np.int64) if truth else np.asarray(crops["tracklet"], np.int64) % people
    return who_at, np.asarray(crops["tracklet"], np.int64)


def _embeddings(work: Workspace, name: str, person: np.ndarray, *, spread: float, seed: int) -> None:
    random = generator(seed, "embeddings", name)
    video = np.asarray(work.open_crops().crops["video"])
    centres, views = random.normal(size=(person.max() + 1, 32)), random.normal(size=(len(_CAMERAS), 32))
    rows = centres[person] + spread * 1.2 * views[video // _FILMS] + spread * random.normal(size=(len(person), 32))
    write_embeddings(
        work.embeddings(name),
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        {"extractor": "color" if name == "round0" else "cnn6"},
    )
    _record(work.embeddings(name), "embed", counts={"crops": len(rows), "width": 32}, seconds=3.5)


def _identities(
    work: Workspace, name: str, person: np.ndarray, tracklet: np.ndarray, *, mistakes: float, seed: int, truth: bool
) -> None:
    random = generator(seed, "identities", name)
    count = int(tracklet.max()) + 1
    usual = np.array([np.bincount(person[tracklet == t]).argmax() for t in range(count)])
    video = np.asarray(work.open_crops().tracklets["video"])
    identity_of = np.where(random.random(count) < mistakes, random.integers(0, usual.max() + 1, count), usual)
    alone = random.random(count) < mistakes
    identity_of[alone] = usual.max() + 1 + np.flatnonzero(alone)
    identity = np.unique(identity_of, return_inverse=True)[1].astype(np.int64)
    final = tracklet.copy()
    moves: list[tuple[str, int, int, int, float]] = []
    for crop in np.flatnonzero((person != usual[tracklet]) | (random.random(len(person)) < 0.02)).tolist():
        t = int(tracklet[crop])
        distance = round(float(random.uniform(0.2, 0.5)), 3)
        targets = np.flatnonzero((video == video[t]) & (usual == person[crop]) & (np.arange(count) != t))
        final[crop] = int(targets[0]) if len(targets) and random.random() < 0.5 else -1
        moves.append(("single-tracklet", crop, t, -1, distance))
        if final[crop] >= 0:
            moves.append(("single-video", crop, t, int(final[crop]), round(distance / 2, 3)))
    links: list[tuple[str, int, int, float]] = []
    for k in np.unique(identity):
        mine = np.flatnonzero(identity == k).tolist()
        for a, b in pairwise(mine):
            stage = "single-video" if video[a] == video[b] else "cross-video"
            links.append((stage, a, b, round(float(random.uniform(0.02, 0.18)), 3)))
    stages = []
    for number, stage in enumerate(STAGES):
        quality = [0.35, 0.4, 0.5, 0.8 - mistakes][number] + 0.01 * seed
        scores = {
            f"{measure}_{score}": value
            for measure, lift in (("pairwise", 0.05), ("bcubed", 0.1))
            for score, value in (("precision", 1 - 0.05 * number), ("recall", quality), ("f1", quality + lift))
        } | {"purity": 0.9}
        stages.append(
            {
                "name": stage,
                "crops_discarded": int((final < 0).sum()) if number == 1 else 0,
                "crops_moved": int((final != tracklet).sum() - (final < 0).sum()) if number == 2 else 0,
                "tracklets_merged": (0, 0, 9, 41)[number],
                "identities": [count, count, count - 9, len(np.unique(identity))][number],
                "noise": round([1.9, 1.4, 0.9, 0.25][number] * (1 + mistakes) + 0.05 * seed, 4),
                "seconds": 0.1 * number,
                **({"scores": scores} if truth else {}),
            }
        )
    report = {
        "thresholds": {"intra": 0.2, "inter": 0.18, "evidence": {"same": 311, "different": 902}},
        "stages": stages,
    }
    columns = list(zip(*moves, strict=True)) or [[]] * 5
    tied = list(zip(*links, strict=True)) or [[]] * 4
    write_identities(
        work.identities(name),
        Identities(
            Assignment(final, identity),
            {
                "stage": np.asarray(tied[0], object),
                **{key: np.asarray(tied[i], np.int64) for i, key in ((1, "first"), (2, "second"))},
                "distance": np.asarray(tied[3], np.float64),
            },
            {
                "stage": np.asarray(columns[0], object),
                **{key: np.asarray(columns[i], np.int64) for i, key in ((1, "crop"), (2, "source"), (3, "target"))},
                "distance": np.asarray(columns[4], np.float64),
            },
            report,
        ),
    )
    _record(work.identities(name), "correlate", counts={"identities": int(identity.max()) + 1}, seconds=0.75)


def _model(work: Workspace, name: str, number: int, seed: int) -> None:
    random = generator(seed, "model", name)
    rows = []
    for step in range(1, 321):
        done = step / 320
        each = 6.24 * np.exp(-3 * done) + 1.2 + 0.05 * random.normal()
        row = {
            "step": step,
            "loss": 6.24 - (1.2 + 0.4 * number) * done + 0.08 * random.normal(),
            "teacher_entropy": each if name != "instance" else 6.1 - 0.3 * done,
            "batch_entropy": 6.2 - 1.3 * done + 0.05 * random.normal() if name != "instance" else 6.2 - 0.2 * done,
            "lr": 1e-3,
            "images_per_second": 900.0,
        }
        if step % 80 == 0:
            row["validation_map"] = 0.05 + 0.1 * done / (1 + number)
        rows.append(json.dumps(row))
    work.model(name).mkdir(parents=True)
    (work.model(name) / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    _record(work.model(name), "pretrain", counts={"steps": 320, "images": 1400}, seconds=55.0 + number)


def _evaluation(work: Workspace, name: str, level: float, seed: int) -> None:
    random = generator(seed, "evaluation", name)
    images = work.root / "test"
    people, queries = 16, []
    images.mkdir(exist_ok=True)
    gallery = []
    for p in range(people):
        for camera in range(3):
            path = images / f"{p + 1:04d}_c{camera + 1}s1_{p:06d}_00.jpg"
            if not path.exists():
                path.write_bytes(draw(_look(100 + p), generator(seed, "probe", p, camera), _cast(camera)))
            (queries if camera == 0 else gallery).append(path)
    owner = np.repeat(np.arange(people), 2)
    top = np.zeros((people, 10), np.int64)
    for q in range(people):
        chance = random.random(len(owner)) - (owner == q) * random.random() * level * 4
        top[q] = np.argsort(chance, kind="stable")[:10]
    hit = owner[top] == np.arange(people)[:, None]
    ap = np.clip(hit.mean(1) * 4 * level + random.random(people) * level, 0, 1)
    level = round(level + 0.004 * seed, 6)
    first = np.where(hit.any(1), hit.argmax(1) + 1, 11)
    at = np.linspace(0.0, 0.8, 4097)
    same, others = (np.exp(-(((at[1:] - mid) / 0.1) ** 2) / 2) * 1000 for mid in (0.3 - level / 2, 0.5))
    folder = work.evaluation(name)
    folder.mkdir(parents=True)
    np.savez(
        folder / "ranking.npz",
        query_path=np.asarray([str(p) for p in queries]),
        gallery_path=np.asarray([str(p) for p in gallery]),
        top=top,
        hit=hit,
        distance=np.sort(random.uniform(0.05, 0.6, (people, 10)), axis=1).astype(np.float32),
        ap=ap.astype(np.float32),
        first_hit=first.astype(np.float64),
        first_right=(first == 1).astype(np.float64),
        query_ids=np.arange(people),
        query_cameras=np.ones(people, np.int64),
        edges=at,
        same=same.astype(np.int64),
        others=others.astype(np.int64),
        shown_ids=np.repeat(np.arange(4), 3),
        shown_cameras=np.tile([1, 2, 3], 4),
        shown_vectors=random.normal(size=(12, 8)).astype(np.float32) + np.repeat(np.eye(4, 8) * 3, 3, axis=0),
    )
    point = {"wanted": 0.01, "threshold": 0.25, "false_match_rate": 0.009, "true_match_rate": 0.4}
    scores = {
        "name": name,
        "extractor": "cnn6",
        "protocol": "market",
        "mean_ap": level,
        "mean_inp": round(level / 2, 6),
        "cmc": [round(min(1.0, level * (1.4 + 0.2 * k)), 6) for k in range(20)],
        "queries": people,
        "valid_queries": people,
        "reasons": {"its person is not in the gallery": 1},
        "gallery": len(gallery),
        "skipped": {"images that cannot be decoded": 2 + seed},
        "model": name,
        "label": name,
        "verification": {
            "pairs_of_one_person": 32,
            "pairs_of_strangers": 480,
            "area": 0.9,
            "equal_error_rate": 0.12,
            "points": [
                {**point, "threshold_interval": [0.2, 0.3], "true_match_interval": [0.3, 0.5]},
                {"wanted": 0.001, "threshold": None},
            ],
        },
        "cameras": {
            "cameras": [1, 2, 3],
            "queries": [[0, 16, 16], [0, 0, 0], [0, 0, 0]],
            "first_right": [[None, 0.5, 0.25], [None] * 3, [None] * 3],
            "mean_ap": [[None, 0.45, 0.3], [None] * 3, [None] * 3],
        },
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    _record(folder, "evaluate", counts={"queries": people}, seconds=1.5)
