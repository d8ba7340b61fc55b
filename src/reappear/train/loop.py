"""The training loop, with phases, checkpoints, metrics and signals."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reappear.core import SILENT, Progress, SettingsError, TrainingError, counted, generator

from .batch import Batch
from .checkpoint import Checkpoints
from .loader import load_batches
from .metrics_log import MetricsLog, Row
from .optimizer import Schedule, clip_each, make_optimizer, scale_layers, set_rates
from .parallel import mean_over_processes, rank_and_world
from .selection import BestModel
from .settings import BaseTrainSettings
from .signals import deferred_signals
from .task import Labels, Phase, StepResult, Task
from .teacher import BufferBackup


@dataclass(frozen=True)
class Run:
    """Where and as what a training runs.

    Attributes:
        folder: Gets `metrics.jsonl` and `checkpoints/`. None: this process (not the first) writes nothing, and reads
            nothing.
        device: Where it runs.
        name: In the experiment tracker.
        resume_from: A checkpoint file, or a folder of them, of the same training elsewhere; for a `folder` without any.
        config_hash: Of settings, labels and data; a checkpoint with another is refused.
        validate: Returns mAP and rank 1 of the exported network, in [0, 1].
        best: Keeps the weights of the highest mAP.
        progress: Progress listener.
    """

    folder: Path | None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    name: str = ""
    resume_from: Path | None = None
    config_hash: str = ""
    validate: Callable[[], tuple[float, float]] | None = None
    best: BestModel | None = None
    progress: Progress = SILENT


@dataclass
class _Skipped:
    """Steps whose loss or gradient was not finite."""

    total: int = 0
    in_a_row: int = 0


def train(task: Task[Any], schedule: Schedule, settings: BaseTrainSettings, run: Run) -> list[Row]:
    """Trains from the newest checkpoint in the folder, or from the start, to the end.

    Every random draw of a step comes from the seed and the step's number, so a training that was stopped anywhere and
    resumed equals one that was not: bit for bit on a CPU in float32 with the same number of threads.

    Args:
        task: What is trained.
        schedule: Number of steps, learning rate and weight decay.
        settings: Of optimiser, runtime, validation and logging. Under float16 the loss is scaled, and gradients are
            unscaled before clipping; the first steps, in which the scale is found, count as skipped.
        run: Where and as what it runs.

    Returns:
        The rows of metrics.jsonl.

    Raises:
        TrainingError: Too many steps in a row were not finite.
    """
    return _Loop(task, schedule, settings, run).run()


class _Loop:
    def __init__(self, task: Task[Any], schedule: Schedule, settings: BaseTrainSettings, run: Run) -> None:
        self.task, self.schedule, self.settings = task, schedule, settings
        self.device, self.folder, self.progress, self._run = run.device, run.folder, run.progress, run
        self.named = dict(task.student.named_parameters())
        groups = scale_layers(task.parameter_groups(), task.backbone, settings.layer_decay)
        self.optimizer = make_optimizer(settings.optimizer, groups, settings.lr)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "float16")
        self.skipped = _Skipped()
        networks = [task.student] if task.teacher is None else [task.student, task.teacher]
        self.buffers = BufferBackup(*networks)
        self.checkpoints = (
            Checkpoints(self.folder / "checkpoints", keep=settings.keep_checkpoints) if self.folder else None
        )
        self.rank, self.world = rank_and_world()

    def run(self) -> list[Row]:
        first, labels = self.restore()
        settings, steps = self.settings, self.schedule.steps
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng([self.device] if self.device.type == "cuda" else []))
            begun = self.begin_phase(first, labels) if first < steps else None
            log = MetricsLog(self.folder if self.rank == 0 else None, tracker=settings.tracker, name=self._run.name)
            stack.callback(log.close)
            log.resume(first)
            advance = stack.enter_context(self.progress.task("training", steps, "step"))
            stop_requested = stack.enter_context(deferred_signals())
            advance(first)
            window, since = time.perf_counter(), first
            for step, phase, batch, fetch in self.batches(first, begun):
                self.seed(step)
                set_rates(
                    self.optimizer, lr=self.schedule.lr_at(step), weight_decay=self.schedule.weight_decay_at(step)
                )
                results = self.forward_backward(batch, step)
                numbers = self.measure(results, stop=stop_requested())
                fetch()  # a GPU is busy with the next batch while the numbers of this step are waited for
                value, asked, norm = numbers()
                self.update(step, value, norm)

                done = step + 1
                advance(1)
                last = done == steps
                row: Row = {}
                if done % settings.log_every == 0 or last or step == 0:
                    row = {
                        "step": done,
                        "loss": value,
                        **results[-1].metrics(),
                        "lr": self.schedule.lr_at(step),
                        "weight_decay": self.schedule.weight_decay_at(step),
                        "gradient_norm": norm,
                        "skipped_steps": self.skipped.total,
                        **self.speed((done - since) / (time.perf_counter() - window), steps - done),
                    }
                    window, since = time.perf_counter(), done
                if self._run.validate and settings.validation_every and (done % settings.validation_every == 0 or last):
                    mean_ap, rank_1 = self._run.validate()
                    row |= {"step": done, "validation_map": mean_ap, "validation_rank_1": rank_1}
                    self.progress.note(f"step {done}: validation mAP {mean_ap:.3f}, rank 1 {rank_1:.3f}")
                    if self._run.best is not None:
                        self._run.best.offer(done, mean_ap)
                    window, since = time.perf_counter(), done
                if row:
                    log.add({key: number for key, number in row.items() if math.isfinite(number)})
                stop = asked > 0 or (self.world == 1 and stop_requested())
                if stop or (done % settings.checkpoint_every == 0 and not last):
                    self.save(done, phase)
                if stop:
                    self.progress.note(f"training: step {done} is saved")
                    stop_requested(obey=True)
            return log.rows

    def begin_phase(self, step: int, labels: Labels | None) -> Phase:
        """The phase that a step belongs to."""
        self.seed(step, "phase")
        phase = self.task.phase(step, labels)
        phase.data.require_even_parts(self.settings.accumulate)
        return phase

    def batches(self, first: int, phase: Phase | None) -> Iterator[tuple[int, Phase, Batch, Callable[[], None]]]:
        """Each step with its phase, its batch on the device, and a call that fetches the next batch early."""
        steps, workers, pin = self.schedule.steps, self.settings.workers, self.device.type == "cuda"
        while first < steps:
            phase = phase or self.begin_phase(first, None)
            end = min(phase.end, steps)
            source = load_batches(phase.data, first, end, workers=workers, pin=pin)
            ready: list[Batch] = []

            def fetch(source: Iterator[Batch] = source, ready: list[Batch] = ready) -> None:
                if (batch := next(source, None)) is not None:
                    ready.append(batch.to(self.device).augmented())

            fetch()
            for step in range(first, end):
                yield step, phase, ready.pop(), fetch
            first, phase = end, None

    def forward_backward(self, batch: Batch, step: int) -> list[StepResult]:
        """Gradients of a step; the result of each part, its loss detached and divided by the number of parts."""
        settings = self.settings
        self.optimizer.zero_grad(set_to_none=True)
        parts = batch.split(settings.accumulate)
        self.buffers.save()
        results = []
        for part in parts:
            with self.task.no_sync() if part is not parts[-1] else nullcontext():
                with torch.autocast(
                    self.device.type, getattr(torch, settings.precision), enabled=settings.precision != "float32"
                ):
                    result = self.task.training_step(part, step)
                    loss = result.loss / settings.accumulate
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            results.append(StepResult(loss.detach(), result.metrics))
        for name, parameter in self.named.items():
            if self.task.is_frozen(name, step):
                parameter.grad = None
        return results

    def measure(self, results: list[StepResult], *, stop: bool) -> Callable[[], list[float]]:
        """Clips the gradients; a call that waits for loss, share of processes asked to stop, and gradient norm."""
        self.scaler.unscale_(self.optimizer)
        norm = clip_each(list(self.named.values()), self.settings.clip)
        loss = torch.stack([result.loss for result in results]).sum()
        shared = mean_over_processes(torch.stack([loss, torch.full_like(loss, stop)]))
        numbers = torch.cat([shared.double(), norm.to(shared.device).double().view(1)])
        if numbers.device.type == "cpu":
            return numbers.tolist
        host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()

        def read() -> list[float]:
            copied.synchronize()
            return host.tolist()

        return read

    def update(self, step: int, loss: float, norm: float) -> None:
        """Applies the gradients, or skips the step where the loss or a gradient is not finite."""
        skipped, bad_steps = self.skipped, self.settings.bad_steps
        if math.isfinite(loss) and math.isfinite(norm):
            skipped.in_a_row = 0
            self.scaler.step(self.optimizer)
            self.task.after_step(step)
        else:
            self.buffers.restore()
            self.task.on_step_skipped()
            skipped.total, skipped.in_a_row = skipped.total + 1, skipped.in_a_row + 1
            scale = f", scaled by {self.scaler.get_scale():g}," if self.scaler.is_enabled() else ""
            if skipped.in_a_row > bad_steps:
                raise TrainingError(
                    f"the loss is {loss} at step {step} and the norm of its gradient{scale} {norm}, as in the "
                    f"{counted(bad_steps, 'step')} before; lower --lr or raise --warmup"
                    + (", or take --precision bfloat16" if scale else "")
                )
            self.progress.note(f"step {step + 1} skipped: the loss or its gradient{scale} is not finite")
        self.scaler.update()

    def seed(self, step: int, what: str = "network") -> None:
        """Seeds PyTorch's random numbers of a step."""
        torch.manual_seed(int(generator(self.settings.seed, what, step, self.rank).integers(1 << 62)))

    def speed(self, steps_per_second: float, left: int) -> Row:
        """Images a second over all processes, the time that is left, and the memory of the GPU."""
        row: Row = {
            "images_per_second": round(steps_per_second * self.settings.images_per_step, 2),
            "eta_seconds": round(left / steps_per_second, 1),
        }
        if self.device.type == "cuda":
            row["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e6, 1)
        return row

    def restore(self) -> tuple[int, Labels | None]:
        """Restores the newest checkpoint; the step to go on with, and the labels of the phase that it lies in."""
        run = self._run
        found = self.checkpoints.load(self.progress) if self.checkpoints else None
        if found is None and run.resume_from is not None:
            found = Checkpoints.read(run.resume_from, self.progress)
        if found is None:
            return 0, None
        step, state = found
        if state["config_hash"] != run.config_hash:
            raise SettingsError(
                f"resume: {run.resume_from or run.folder} is of a training with other settings, images or labels"
            )
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.skipped = _Skipped(**state["skipped"])
        if run.best is not None:
            run.best.load_state_dict(state["best"])
        self.progress.note(f"resuming the training after step {step}")
        within = step < state["phase"]["end"]
        return step, {name: value.numpy() for name, value in state["phase"]["labels"].items()} if within else None

    def save(self, done: int, phase: Phase) -> None:
        """Saves a checkpoint after `done` steps; only the first process does."""
        if not self.checkpoints or self.rank:
            return
        state: dict[str, Any] = {
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "skipped": vars(self.skipped),
            "phase": {
                "end": phase.end,
                "labels": {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in phase.labels.items()},
            },
            "config_hash": self._run.config_hash,
        }
        if self._run.best is not None:
            state["best"] = self._run.best.state_dict()
        self.checkpoints.save(done, state)
