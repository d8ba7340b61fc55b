"""The training loop, with checkpoints, metrics and signals."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from reappear.core import SILENT, Progress, SettingsError, TrainingError, generator

from .batches import IdentityBatch, StepBatches, batches
from .checkpoint import Checkpoints
from .metrics_log import MetricsLog, Row, Tracker
from .optimizer import OptimizerName, Schedule, clip_each, make_optimizer
from .parallel import any_process, mean_over_processes, rank_and_world
from .signals import deferred_signals

Precision = Literal["float32", "bfloat16", "float16"]


@runtime_checkable
class Method(Protocol):
    """A training method: a network, a loss, and the updates after a step."""

    @property
    def student(self) -> nn.Module:
        """What the optimiser trains."""
        ...

    def loss(self, batch: IdentityBatch, step: int) -> Tensor:
        """The loss of a step, or of one of the equal parts of it, in the forward pass."""
        ...

    def no_sync(self) -> AbstractContextManager[None]:
        """Context in which gradients are not averaged over processes: all parts of a step but the last."""
        ...

    def after_step(self, step: int) -> None:
        """Runs after the optimiser's step, such as the update of a teacher."""
        ...

    def on_step_skipped(self) -> None:
        """Runs in place of `after_step` when the step is skipped."""
        ...

    def metrics(self, step: int) -> Row:
        """Metrics of the last step."""
        ...

    def is_frozen(self, parameter: str, step: int) -> bool:
        """Whether a parameter of the student is not updated in this step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """State of the method for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        ...


@dataclass
class _Skipped:
    """Steps whose loss or gradient was not finite."""

    total: int = 0
    in_a_row: int = 0


def train(
    method: Method,
    data: StepBatches,
    schedule: Schedule,
    *,
    images_per_step: int,
    device: torch.device,
    seed: int,
    folder: Path | None,
    optimizer_name: OptimizerName = "adamw",
    precision: Precision = "float32",
    accumulate: int = 1,
    bad_steps: int = 10,
    workers: int = 0,
    log_every: int = 10,
    checkpoint_every: int = 1000,
    keep_checkpoints: int = 2,
    resume_from: Path | None = None,
    config_hash: str = "",
    tracker: Tracker = "none",
    name: str = "",
    validation: Callable[[], float] | None = None,
    validation_every: int = 0,
    progress: Progress = SILENT,
) -> list[Row]:
    """Trains from the newest checkpoint in `folder`, or from the start, to the end.

    Every random draw of a step comes from the seed and the step's number, so a training that was stopped anywhere and
    resumed equals one that was not: bit for bit on a CPU in float32 with the same number of threads.

    Args:
        method: What is trained.
        data: The batch of each step.
        schedule: Learning rate, weight decay and clipping.
        images_per_step: Over all processes; for images/s.
        device: Where it runs.
        seed: Of the run.
        folder: Gets `metrics.jsonl` and `checkpoints/`. None: this process (not the first) writes nothing, and reads
            nothing.
        optimizer_name: AdamW, or SGD with momentum 0.9.
        precision: Of the forward pass. Under float16 the loss is scaled, and gradients are unscaled before clipping.
        accumulate: Parts that a step's batch is cut into, one after the other on the device.
        bad_steps: Steps in a row whose loss or gradient may be not finite; they are skipped and counted. Under float16
            those are among them in which the scale of the loss is found: it begins at 65,536 and is halved by each.
        workers: Processes that prepare batches ahead.
        log_every: Steps between rows of metrics.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: Number kept.
        resume_from: A checkpoint file, or a folder of them, of the same training elsewhere; for a `folder` without any.
        config_hash: Of settings, labels and data; a checkpoint with another is refused.
        tracker: Experiment tracker that gets the rows of metrics.jsonl.
        name: Of the run in the tracker.
        validation: Returns the mAP of the exported network, in [0, 1].
        validation_every: Steps between validations; 0 = never.
        progress: Progress listener.

    Returns:
        The rows of metrics.jsonl.

    Raises:
        TrainingError: Too many steps in a row were not finite.
    """
    for setting, least, given in (
        ("log_every", 1, log_every),
        ("checkpoint_every", 1, checkpoint_every),
        ("keep_checkpoints", 1, keep_checkpoints),
        ("accumulate", 1, accumulate),
        ("bad_steps", 0, bad_steps),
    ):
        if given < least:
            raise SettingsError(f"{setting}: must be {least} or more, got {given}")
    data.require_even_parts(accumulate)
    named = dict(method.student.named_parameters())
    optimizer = make_optimizer(optimizer_name, named, schedule.lr)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    rank, _ = rank_and_world()
    skipped = _Skipped()

    first = 0
    checkpoints = Checkpoints(folder / "checkpoints", keep=keep_checkpoints) if folder else None
    found = checkpoints.load(progress) if checkpoints else None
    if found is None and resume_from is not None:
        found = Checkpoints.read(resume_from, progress)
    if found:
        first, state = found
        if state["config_hash"] != config_hash:
            raise SettingsError(
                f"resume: {resume_from or folder} is of a training with other settings, images or labels"
            )
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        skipped = _Skipped(**state["skipped"])
        progress.note(f"resuming the training after step {first}")

    def save(done: int) -> None:
        if checkpoints and rank == 0:
            state = {
                "method": method.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scaler": scaler.state_dict(),
                "skipped": vars(skipped),
                "config_hash": config_hash,
            }
            checkpoints.save(done, state)

    with ExitStack() as stack:
        log = MetricsLog(folder if rank == 0 else None, tracker=tracker, name=name)
        stack.callback(log.close)
        log.resume(first)
        advance = stack.enter_context(progress.task("training", schedule.steps))
        stop_requested = stack.enter_context(deferred_signals())
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        advance(first)
        source = batches(data, first, schedule.steps, workers=workers, pin=device.type == "cuda")
        window, since = time.perf_counter(), first
        for step in range(first, schedule.steps):
            torch.manual_seed(int(generator(seed, "network", step, rank).integers(1 << 62)))
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr_at(step)
                group["weight_decay"] = schedule.weight_decay_at(step) if group["decays"] else 0.0
            optimizer.zero_grad(set_to_none=True)
            parts = next(source).to(device).augmented().parts(accumulate)
            losses = []
            for part in parts:
                with method.no_sync() if part is not parts[-1] else nullcontext():
                    with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
                        loss = method.loss(part, step) / accumulate
                    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                losses.append(loss.detach())
            for parameter_name, parameter in named.items():
                if method.is_frozen(parameter_name, step):
                    parameter.grad = None
            scaler.unscale_(optimizer)
            norm = float(clip_each(list(named.values()), schedule.clip))
            value = float(mean_over_processes(torch.stack(losses).sum()))
            if math.isfinite(value) and math.isfinite(norm):
                skipped.in_a_row = 0
                scaler.step(optimizer)
                method.after_step(step)
            else:
                method.on_step_skipped()
                skipped.total, skipped.in_a_row = skipped.total + 1, skipped.in_a_row + 1
                scale = f", scaled by {scaler.get_scale():g}," if scaler.is_enabled() else ""
                if skipped.in_a_row > bad_steps:
                    raise TrainingError(
                        f"the loss is {value} at step {step} and the norm of its gradient{scale} {norm}, as in the "
                        f"{bad_steps} steps before; lower lr or lengthen the warm-up"
                        + (", or take bfloat16" if scale else "")
                    )
                progress.note(f"step {step + 1} skipped: the loss or its gradient{scale} is not finite")
            scaler.update()

            done = step + 1
            advance(1)
            last = done == schedule.steps
            row: Row = {}
            if done % log_every == 0 or last or step == 0:
                seconds = time.perf_counter() - window
                speed = (done - since) / seconds
                row = {
                    "step": done,
                    "loss": value,
                    **method.metrics(step),
                    "lr": schedule.lr_at(step),
                    "weight_decay": schedule.weight_decay_at(step),
                    "gradient_norm": norm,
                    "skipped_steps": skipped.total,
                    "images_per_second": round(speed * images_per_step, 2),
                    "eta_seconds": round((schedule.steps - done) / speed, 1),
                }
                if device.type == "cuda":
                    row["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
                window, since = time.perf_counter(), done
            if validation and validation_every and (done % validation_every == 0 or last):
                row |= {"step": done, "validation_map": validation()}
                progress.note(f"step {done}: validation mAP {row['validation_map']:.3f}")
                window, since = time.perf_counter(), done
            if row:
                log.add({key: number for key, number in row.items() if math.isfinite(number)})
            stop = any_process(stop_requested(), device)
            if stop or (done % checkpoint_every == 0 and not last):
                save(done)
            if stop:
                progress.note(f"training: step {done} is saved")
                stop_requested(obey=True)
        return log.rows
