"""Training of one model in one process."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reappear.core import ImageTable, Progress, device_memory_errors
from reappear.methods.registry import spec_of
from reappear.methods.setup import Setup, preprocessing_of
from reappear.pipeline.contents import hash_value
from reappear.pipeline.labels import crop_images, labelled_crops
from reappear.pipeline.record import Outcome, read_record
from reappear.pipeline.settings import result_settings
from reappear.pipeline.validation import Validation, held_out, validation_crops
from reappear.pipeline.workspace import Workspace
from reappear.store import CropStore, remove_scratch
from reappear.train import parallel
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule

from .card import model_card, model_origin
from .images import CropImages
from .settings import PretrainSettings


@dataclass(frozen=True)
class Training:
    """Inputs of a training, the same in every process."""

    work: Workspace
    crops: CropStore
    settings: PretrainSettings
    labels: str
    device: torch.device
    name: str
    resume_from: Path | None

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
        settings = self.settings
        table, dropped = labelled_crops(self.work, self.labels)
        table, validation, held = self._validation(table)
        if held:
            dropped = {**dropped, "held out for validation": held}
        schedule = Schedule.of(settings, len(table))
        images = CropImages(crop_images(self.work, table), max_height=2 * settings.height, memory_mb=settings.memory_mb)
        setup = Setup(settings, settings.method, images, table, self.labels, schedule.steps, self.device)
        task = spec_of(settings.method).build(setup)
        embedder = task.export(settings.keep)
        run = Run(
            staging,
            self.device,
            name=self.name,
            resume_from=self.resume_from,
            config_hash=self._config_hash(table),
            validate=None if validation is None else (lambda: validation.score(embedder)),
            progress=progress,
        )
        metrics = train(task, schedule, settings, run)
        for warning in task.warnings(metrics):
            progress.note(warning)
        counts: dict[str, int | float] = {
            "steps": schedule.steps,
            "crops": len(table),
            "identities": len(np.unique(table.identity)),
            **({"loss": metrics[-1]["loss"]} if metrics and "loss" in metrics[-1] else {}),
        }
        if parallel.rank_and_world()[0] == 0:
            origin = model_origin(settings, self.labels, schedule.steps)
            embedder.save(staging, card=model_card(settings, self.labels, counts, metrics), **origin)
            remove_scratch(staging / "checkpoints", "step-*.pt")
        return Outcome(counts, dropped, made=len(table))

    def _config_hash(self, table: ImageTable) -> str:
        """The hash of settings, labels and data: a checkpoint continues only a training with the same."""
        config = {"labels": self.labels, "data": self._data(table), **result_settings(self.settings)}
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()

    def _data(self, table: ImageTable) -> str:
        """The hash of the training data: crops, with all that is known of them, and labels."""
        crops = read_record(self.crops.folder).fingerprint
        return hash_value([crops, table.path, table.identity], root=self.work.root)

    def _validation(self, table: ImageTable) -> tuple[ImageTable, Validation | None, int]:
        """Crops to train on, the validation set (first process only), and the number of held-out crops."""
        settings, preprocessing = self.settings, preprocessing_of(self.settings)
        first = parallel.rank_and_world()[0] == 0
        if settings.validation is not None:
            return table, Validation.of_folder(settings.validation, preprocessing) if first else None, 0
        if not settings.validation_share:
            return table, None, 0
        held = held_out(self.crops, table, share=settings.validation_share, seed=settings.seed)
        if not (first and held.any()):
            return table.select(~held), None, int(held.sum())
        queries = validation_crops(self.crops, table.select(held))
        validation = Validation.of(crop_images(self.work, queries), preprocessing)
        return table.select(~held), validation, int(held.sum())
