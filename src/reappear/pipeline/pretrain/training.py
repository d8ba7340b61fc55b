"""Training of one model in one process."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from reappear.core import Progress
from reappear.methods.registry import spec_of
from reappear.methods.setup import Setup
from reappear.models import Embedder, Preprocessing, save_model
from reappear.pipeline.contents import hash_value
from reappear.pipeline.record import Outcome, read_record
from reappear.pipeline.settings import result_settings
from reappear.pipeline.validation import Validation, held_out
from reappear.pipeline.workspace import Workspace
from reappear.store import CropStore, remove_scratch
from reappear.train import parallel
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule

from .card import model_card, model_config
from .images import CropImages
from .labels import crop_table, labelled
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
            return self._run(staging, progress)
        finally:
            torch.set_num_threads(threads)

    def _run(self, staging: Path, progress: Progress) -> Outcome:
        settings = self.settings
        rows, identity, dropped = labelled(self.crops, self.labels, self.work)
        rows, identity, validation, held = self._validation(rows, identity)
        if held:
            dropped = {**dropped, "held out for validation": held}
        schedule = Schedule.of(settings, len(rows))
        images = CropImages(self.crops, rows, max_height=2 * settings.height, memory_mb=settings.memory_mb)
        setup = Setup(
            settings,
            settings.method,
            images,
            crop_table(self.crops, rows, identity),
            self.labels,
            schedule.steps,
            self.device,
        )
        task = spec_of(settings.method).build(setup)
        exported = task.export(settings.keep)
        embedder = Embedder(exported, self._preprocessing)
        run = Run(
            staging,
            self.device,
            name=self.name,
            resume_from=self.resume_from,
            config_hash=self._config_hash(rows, identity),
            validate=None if validation is None else (lambda: validation.score(embedder)),
            progress=progress,
        )
        metrics = train(task, schedule, settings, run)
        for warning in task.warnings(metrics):
            progress.note(warning)
        counts: dict[str, int | float] = {
            "steps": schedule.steps,
            "crops": len(rows),
            "identities": len(np.unique(identity)),
            **({"loss": metrics[-1]["loss"]} if metrics and "loss" in metrics[-1] else {}),
        }
        if parallel.rank_and_world()[0] == 0:
            config = model_config(settings, self.labels, schedule.steps)
            save_model(staging, exported, config, card=model_card(settings, self.labels, counts, metrics))
            remove_scratch(staging / "checkpoints", "step-*.pt")
        return Outcome(counts, dropped, made=len(rows))

    @property
    def _preprocessing(self) -> Preprocessing:
        return Preprocessing(height=self.settings.height, width=self.settings.width)

    def _config_hash(self, rows: Int[np.ndarray, " n"], identity: Int[np.ndarray, " n"]) -> str:
        """The hash of settings, labels and data: a checkpoint continues only a training with the same."""
        config = {"labels": self.labels, "data": self._data(rows, identity), **result_settings(self.settings)}
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()

    def _data(self, rows: Int[np.ndarray, " n"], identity: Int[np.ndarray, " n"]) -> str:
        """The hash of the training data: crops and labels."""
        crops = read_record(self.crops.folder).fingerprint
        return hash_value([crops, rows, identity], root=self.work.root)

    def _validation(
        self, rows: Int[np.ndarray, " n"], identity: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Validation | None, int]:
        """Training crops and labels, the validation set (first process only), and the number of held-out crops."""
        settings = self.settings
        first = parallel.rank_and_world()[0] == 0
        if settings.validation is not None:
            return rows, identity, Validation.of_folder(settings.validation, self._preprocessing) if first else None, 0
        if not settings.validation_share:
            return rows, identity, None, 0
        held = held_out(self.crops, rows, identity, share=settings.validation_share, seed=settings.seed)
        asks = first and bool(held.any())
        validation = Validation.of_crops(self.crops, rows[held], identity[held], self._preprocessing) if asks else None
        return rows[~held], identity[~held], validation, int(held.sum())
