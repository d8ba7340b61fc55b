"""Training of one model in one process."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from reappear.core import Progress
from reappear.models import save_model
from reappear.pipeline.contents import hash_value
from reappear.pipeline.record import Outcome, read_record
from reappear.pipeline.settings import to_plain
from reappear.pipeline.validation import Validation, held_out
from reappear.pipeline.workspace import Workspace
from reappear.store import CropStore, remove_scratch
from reappear.train import parallel
from reappear.train.batches import StepBatches
from reappear.train.loop import train
from reappear.train.optimizer import Schedule
from reappear.train.sampler import IdentitySampler

from .card import model_card, model_config
from .images import CropImages
from .labels import labelled
from .method import build_method
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
        schedule = self._schedule(len(rows))
        method = build_method(settings, schedule.steps, self.device)
        exported = getattr(method, settings.keep)
        metrics = train(
            method,
            self._batches(rows, identity, schedule.steps),
            schedule,
            images_per_step=settings.images_per_step,
            device=self.device,
            seed=settings.seed,
            folder=staging,
            optimizer_name=settings.optimizer,
            precision=settings.precision,
            accumulate=settings.accumulate,
            bad_steps=settings.bad_steps,
            workers=settings.workers,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            keep_checkpoints=settings.keep_checkpoints,
            resume_from=self.resume_from,
            config_hash=self._config_hash(rows, identity),
            tracker=settings.tracker,
            name=self.name,
            validation=None if validation is None else (lambda: validation.score(exported.backbone, self.device)),
            validation_every=settings.validation_every,
            progress=progress,
        )
        counts: dict[str, int | float] = {
            "steps": schedule.steps,
            "crops": len(rows),
            "identities": len(np.unique(identity)),
            **({"loss": metrics[-1]["loss"]} if metrics and "loss" in metrics[-1] else {}),
        }
        if parallel.rank_and_world()[0] == 0:
            config = model_config(settings, self.labels, schedule.steps)
            save_model(staging, exported.backbone, config, card=model_card(settings, self.labels, counts, metrics))
            remove_scratch(staging / "checkpoints", "step-*.pt")
        return Outcome(counts, dropped, made=len(rows))

    def _config_hash(self, rows: Int[np.ndarray, " n"], identity: Int[np.ndarray, " n"]) -> str:
        """The hash of settings, labels and data: a checkpoint continues only a training with the same."""
        config = {"labels": self.labels, "data": self._data(rows, identity), **to_plain(self.settings)}
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
        size = settings.height, settings.width
        first = parallel.rank_and_world()[0] == 0
        if settings.validation is not None:
            return rows, identity, Validation.of_folder(settings.validation, *size) if first else None, 0
        if not settings.validation_share:
            return rows, identity, None, 0
        held = held_out(self.crops, rows, identity, share=settings.validation_share, seed=settings.seed)
        asks = first and bool(held.any())
        validation = Validation.of_crops(self.crops, rows[held], identity[held], *size) if asks else None
        return rows[~held], identity[~held], validation, int(held.sum())

    def _schedule(self, crops: int) -> Schedule:
        settings = self.settings
        steps = settings.steps
        if steps is None:
            steps = max(1, round(settings.epochs * crops / settings.images_per_step))
        return Schedule(
            steps=steps,
            lr=settings.lr,
            final_lr=settings.final_lr,
            warmup_steps=int(settings.warmup * steps),
            weight_decay=settings.weight_decay,
            final_weight_decay=settings.final_weight_decay,
            clip=settings.clip,
        )

    def _batches(self, rows: Int[np.ndarray, " n"], identity: Int[np.ndarray, " n"], steps: int) -> StepBatches:
        """The batches of each step."""
        settings = self.settings
        rank, world = parallel.rank_and_world()
        single = ((0.0, 1),)
        stages = single if self.labels == "instance" else getattr(settings.method, "curriculum", single)
        on_device = settings.colours_on == "device" or (settings.colours_on == "auto" and self.device.type == "cuda")
        return StepBatches(
            CropImages(self.crops, rows, max_height=2 * settings.height, memory_mb=settings.memory_mb),
            identity,
            IdentitySampler(
                identity, images_per_step=settings.images_per_step, steps=steps, stages=stages, seed=settings.seed
            ),
            settings.views.build(
                height=settings.height,
                width=settings.width,
                local_height=settings.local_height,
                local_width=settings.local_width,
            ),
            seed=settings.seed,
            rank=rank,
            world=world,
            defer_colors=on_device,
        )
