"""Does a training gain by leaving out crops that are unlike their identity, as its own teacher sees them?

    python benchmarks/clean_labels.py OUT --crops CUHK03_NP --extractor WEIGHTS     # the table, kept in results/
    parts: [--sets NAME ...] [--labels NAME ...] [--arms NAME ...] [--seeds N ...] [--set NAME=VALUE ...]

Sets are those of `objectives.py`: development sets only. Labels are the true identities, by which a share of the crops,
drawn by the seed, has another identity of the same camera (`true + 10`), or the identities found with their own errors.

Arms train `supcon` with its defaults. `fixed` learns from the labels as they are. `cosine below 0` scores all crops
after 30 % of the training, and after each further 20 %: the cosine of a crop's vector with the mean of the others of
its identity, each vector less the mean of its camera. Where it is below 0, the crop is left out until the next scoring.
`oracle` leaves out every crop that does not show the main person of its identity, from the same step on.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import Any

import measure
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from objectives import CROPS, SHARED, Source, add_arguments, held, prepare, table_of, validation, work_on

from reappear.core import ImageTable, generator
from reappear.methods.setup import Setup, choose_device
from reappear.methods.supcon.task import SupCon
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.settings import parse_override, resolve, to_plain
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule
from reappear.train.task import Labels, Phase

ARMS = ("fixed", "cosine below 0", "oracle")
LABELS = ("true + 0", "true + 10", "true + 30", "found")
WARMUP, EVERY = 0.3, 0.2
AT_ONCE = 256


class Cleaned(SupCon):
    """SupCon whose phases leave crops out.

    Attributes:
        dropped: At each scoring: the share of crops left out, and precision and recall of wrong ones among them.
    """

    def __init__(self, setup: Setup[Any], arm: str, truth: Int[np.ndarray, " n"]) -> None:
        super().__init__(setup)
        self.arm, self.wrong = arm, wrong_crops(setup.table.identity, truth)
        self.dropped: list[dict[str, float | None]] = []

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """The steps until the next scoring."""
        phase, steps = super().phase(step, labels), self.setup.steps
        if self.arm == "fixed":
            return phase
        edges = np.unique([0, *(round(s * steps) for s in np.arange(WARMUP, 0.999, EVERY)), steps])
        place = int(np.searchsorted(edges, step, side="right")) - 1
        first, end = int(edges[place]), int(edges[place + 1])
        if step == 0:
            return replace(phase, first=first, end=end)
        kept = ~self.wrong
        if self.arm != "oracle":
            kept = to_others(teacher_vectors(self), self.setup.table) >= 0
        gone = ~kept
        self.dropped.append(
            {
                "dropped": float(gone.mean()),
                "precision": float(self.wrong[gone].mean()) if gone.any() else None,
                "recall": float(gone[self.wrong].mean()) if self.wrong.any() else None,
            }
        )
        chosen = Chosen(self.setup.images, np.flatnonzero(kept))
        setup = replace(self.setup, images=chosen, table=self.setup.table.select(kept))
        made = setup.views(self.settings.curriculum, by_camera=self.settings.negatives == "camera")
        return replace(made, first=first, end=end)


class Chosen:
    """Some images, by their numbers."""

    def __init__(self, images: Any, rows: Int[np.ndarray, " n"]) -> None:
        self._images, self._rows = images, rows

    def __getitem__(self, image: int) -> Any:
        return self._images[int(self._rows[image])]


@torch.no_grad()
def teacher_vectors(task: SupCon) -> Float[np.ndarray, "n d"]:
    """Vectors of all images, not augmented."""
    network, rows = task.teacher, np.arange(len(task.setup.table))
    training = network.training
    network.eval()
    made = [
        network.head.embed(network.pooled(task.setup.pixels(some))).float().cpu().numpy()
        for some in np.array_split(rows, -(-len(rows) // AT_ONCE))
    ]
    network.train(training)
    return np.concatenate(made)


def to_others(vectors: Float[np.ndarray, "n d"], table: ImageTable) -> Float[np.ndarray, " n"]:
    """Cosine of each crop with the mean of the others of its identity, less their cameras; 1 where there are none."""
    identity = np.unique(table.identity, return_inverse=True)[1]
    vectors = vectors.copy()
    for camera in np.unique(table.camera):
        vectors[table.camera == camera] -= vectors[table.camera == camera].mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    total = np.zeros((identity.max() + 1, vectors.shape[1]), np.float32)
    np.add.at(total, identity, vectors)
    others = total[identity] - vectors
    norm = np.linalg.norm(others, axis=1)
    return np.where(norm > 1e-6, (others * vectors).sum(1) / norm.clip(1e-6), 1.0)


def wrong_crops(identity: Int[np.ndarray, " n"], truth: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Crops that do not show the person that most crops of their identity show."""
    pairs, counts = np.unique(np.stack([identity, truth]), axis=1, return_counts=True)
    order = np.lexsort((counts, pairs[0]))
    last = np.r_[np.flatnonzero(np.diff(pairs[0][order])), len(order) - 1]
    names, main = pairs[:, order[last]]
    return main[np.searchsorted(names, identity)] != truth


def noisy(table: ImageTable, share: float, seed: int) -> ImageTable:
    """A share of the crops gets another identity of the same camera."""
    random = generator(seed, "wrong labels")
    identity = table.identity.copy()
    for row in random.permutation(len(table))[: round(share * len(table))].tolist():
        there = np.unique(table.identity[table.camera == table.camera[row]])
        identity[row] = random.choice(there[there != table.identity[row]])
    return replace(table, identity=identity)


def truth_of(source: Source, table: ImageTable, height: int) -> Int[np.ndarray, " n"]:
    """The person on each crop; of those that the truth lacks, -1."""
    true, _ = held(source, "true", height)
    known = dict(zip(np.asarray(true.path).tolist(), true.identity.tolist(), strict=True))
    return np.array([known.get(path, -1) for path in np.asarray(table.path).tolist()])


def run(job: dict[str, Any], source: Source) -> dict[str, Any]:
    """Trains one model and scores it."""
    settings = resolve(PretrainSettings, {**SHARED, **(CROPS if source.real else {}), **job["settings"]})
    settings = replace(settings, seed=job["seed"])
    device = choose_device(settings.device)
    torch.set_num_threads(settings.threads)
    name, _, share = job["labels"].partition(" + ")
    table, images = held(source, {"found": "round0"}.get(name, name), settings.height)
    truth = truth_of(source, table, settings.height)
    if share:
        table = noisy(table, float(share) / 100, job["seed"])
    schedule = Schedule.of(settings, len(table))
    setup = Setup(settings, settings.method, images, table, job["labels"], schedule.steps, device)
    task = Cleaned(setup, job["arm"], truth)
    embedder = task.export(settings.keep)
    scored = validation(source, settings.height, settings.width)
    begun = time.perf_counter()
    train(task, schedule, settings, Run(None, device))
    seconds = time.perf_counter() - begun
    ranking = scored.rank(embedder)
    return {
        **{name: job[name] for name in ("set", "arm", "labels", "seed")},
        "settings": to_plain(settings),
        "wrong": float(task.wrong.mean()),
        "dropped": task.dropped,
        "map": ranking.mean_ap,
        "rank1": float(ranking.cmc[0]),
        "seconds": seconds,
        "peak_mb": measure.peak_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--labels", nargs="+", default=LABELS)
    parser.add_argument("--quick", action="store_true", help="tiny worlds, 16 steps, nothing kept")
    asked = parser.parse_args()
    if asked.quick:
        asked.sets, asked.seeds, asked.set = ["world10"], [0], ["steps=16", "images_per_step=24"]
    started_on = measure.machine()
    folder = asked.out / "clean"
    folder.mkdir(parents=True, exist_ok=True)
    changes = dict(parse_override(text) for text in asked.set)
    runs, wanted = [], 0
    for seed in asked.seeds or [0, 1]:
        for name in asked.sets or ["crops_dev"]:
            source = prepare(name, asked)
            for labels in asked.labels:
                for arm in asked.arms or ARMS:
                    job: dict[str, Any] = {"set": name, "seed": seed, "arm": arm, "labels": labels}
                    file = folder / f"{' '.join(map(str, job.values()))}.json"
                    job["settings"] = {"validation_every": 0, "device": asked.device, **changes}
                    print(work_on((job, source, file, time.time() + 60 * asked.minutes), run), flush=True)
                    wanted += 1
                    runs += [json.loads(file.read_text())] if file.exists() else []
    print(json.dumps(table_of(runs), indent=1))
    if not asked.quick and runs:
        settings = runs[0]["settings"]
        each = [{name: value for name, value in row.items() if name != "settings"} for row in runs]
        measure.keep("clean_labels", {"table": table_of(runs), "settings": settings, "runs": each}, started_on)
    if len(runs) < wanted:
        sys.exit(f"{wanted - len(runs)} of {wanted} runs are missing")


if __name__ == "__main__":
    main()
