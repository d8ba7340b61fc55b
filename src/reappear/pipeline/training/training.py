"""Training of one model in one process."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from reappear.core import Progress, device_memory_errors
from reappear.data import UNREADABLE, Images
from reappear.methods.registry import spec_of
from reappear.methods.settings import MethodSettings
from reappear.methods.setup import Setup
from reappear.models import Embedder
from reappear.pipeline.record import Outcome
from reappear.pipeline.settings import result_settings
from reappear.pipeline.validation import Validation
from reappear.store import remove_scratch, write_text
from reappear.train import parallel
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule
from reappear.train.selection import BestModel
from reappear.train.settings import BaseTrainSettings, Keep

from .card import model_card, model_origin
from .images import CropImages


@dataclass(frozen=True)
class TrainingSet:
    """What a model is trained and validated on.

    Attributes:
        images: With the labels that are trained on.
        source: For config.json and the card: where they come from, under one key, such as {"labels": "round0"}.
        labels: Name of the labels, for the method.
        dropped: Reason → images that were left out.
        fingerprint: Hash of images and labels: a checkpoint continues only a training on the same.
        validation: Of the first process, where there is any.
        unreadable: Image → why it was left out, listed in `unreadable.json`.
    """

    images: Images
    source: dict[str, str]
    labels: str
    dropped: dict[str, int]
    fingerprint: str
    validation: Validation | None
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """A training, the same in every process.

    Attributes:
        settings: Of the training.
        method: Settings of its method.
        read: Reads the images, with a progress listener.
        device: Where it runs.
        name: Of the model.
        unit: What images are called in the record.
        keep: Network that is saved.
        select: Whether the saved weights are those of the highest validation mAP; the last are then in `last/`.
        resume: "auto", "never", or a checkpoint of the same training elsewhere.
    """

    settings: BaseTrainSettings
    method: MethodSettings
    read: Callable[[Progress], TrainingSet]
    device: torch.device
    name: str
    unit: str = "images"
    keep: Keep = "student"
    select: bool = False
    resume: str | Path = "auto"

    def run(self, staging: Path, progress: Progress) -> Outcome:
        """Trains, and leaves the model in `staging`."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.settings.threads)
        try:
            with device_memory_errors(self.settings.less_memory):
                return self._run(staging, progress)
        finally:
            torch.set_num_threads(threads)

    def _run(self, staging: Path, progress: Progress) -> Outcome:
        settings, data = self.settings, self.read(progress)
        table, validation = data.images.table, data.validation
        schedule = Schedule.of(settings, len(table))
        images = CropImages(data.images, max_height=2 * settings.height, memory_mb=settings.memory_mb)
        setup = Setup(settings, self.method, images, table, data.labels, schedule.steps, self.device)
        task = spec_of(self.method).build(setup)
        embedder = task.export(self.keep)
        best = BestModel(embedder) if self.select and validation is not None else None
        run = Run(
            staging,
            self.device,
            name=self.name,
            resume_from=Path(self.resume) if self.resume not in ("auto", "never") else None,
            config_hash=self._config_hash(data),
            validate=None if validation is None else (lambda: validation.scores(embedder)),
            best=best,
            progress=progress,
        )
        metrics = train(task, schedule, settings, run)
        for warning in task.warnings(metrics):
            progress.note(warning)
        counts: dict[str, int | float] = {
            "steps": schedule.steps,
            self.unit: len(table),
            "identities": len(np.unique(table.identity)),
            **({"loss": metrics[-1]["loss"]} if metrics and "loss" in metrics[-1] else {}),
        }
        left_out = {
            UNREADABLE: data.unreadable,
            f"validation {UNREADABLE}": validation.unreadable if validation else {},
        }
        dropped = {**data.dropped, **{reason: len(images) for reason, images in left_out.items() if images}}
        unreadable = {image: why for images in left_out.values() for image, why in images.items()}
        if parallel.rank_and_world()[0] == 0:
            validated = [row["validation_map"] for row in metrics if "validation_map" in row]
            last = {"at the end": validated[-1]} if validated else {}
            if best is None or not best.state:
                self._save(embedder, staging, data, schedule.steps, counts, last)
            else:
                counts |= {
                    "selected_step": best.step,
                    "selected_validation_map": best.score,
                    "last_validation_map": validated[-1],
                }
                if best.step != schedule.steps:
                    self._save(embedder, staging / "last", data, schedule.steps, counts, last)
                    best.apply()
                scores = {f"after step {best.step:,}, the highest": best.score, **last}
                self._save(embedder, staging, data, best.step, counts, scores)
            if unreadable:
                write_text(staging / "unreadable.json", json.dumps(unreadable, indent=2) + "\n")
            remove_scratch(staging / "checkpoints", "step-*.pt")
        return Outcome(counts, dropped, made=len(table))

    def _save(
        self,
        embedder: Embedder,
        folder: Path,
        data: TrainingSet,
        steps: int,
        counts: dict[str, int | float],
        scores: dict[str, float],
    ) -> None:
        origin = model_origin(self.settings, self.method, data.source, self.keep, steps) | embedder.config
        card = model_card(embedder, self.settings, self.method, origin, counts, scores)
        embedder.save(folder, card=card, **origin)

    def _config_hash(self, data: TrainingSet) -> str:
        """The hash of settings, labels and data: a checkpoint continues only a training with the same."""
        config = {"labels": data.labels, "data": data.fingerprint, **result_settings(self.settings)}
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
