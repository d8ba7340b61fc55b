"""The training loop: steps, and what every training needs around them."""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from reappear.core import SILENT, Progress, SettingsError, TrainingError, generator
from reappear.store import write_text

from .batches import IdentityBatch, StepBatches, batches
from .checkpoint import Checkpoints
from .parallel import any_process, rank_and_world
from .schedule import cosine, learning_rate

Row = dict[str, int | float]
Precision = Literal["float32", "bfloat16", "float16"]


@runtime_checkable
class Method(Protocol):
    """One way to train: a model, a loss, and what happens after a step."""

    @property
    def student(self) -> nn.Module:
        """What the optimiser trains."""
        ...

    def loss(self, batch: IdentityBatch, step: int) -> Tensor:
        """The loss of a step, in the forward pass."""
        ...

    def after_step(self, step: int) -> None:
        """What follows the optimiser's step, such as moving a teacher."""
        ...

    def monitors(self, step: int) -> Row:
        """What to watch of the last step."""
        ...

    def is_frozen(self, parameter: str, step: int) -> bool:
        """Whether a parameter of the student stays as it is in this step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs of the method."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        ...


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the optimiser goes, step by step.

    Attributes:
        steps: In all.
        lr: Peak learning rate.
        final_lr: At the end of the cosine.
        warmup_steps: Of linear rise.
        weight_decay: At the start; biases and vectors have none.
        final_weight_decay: At the end of its cosine.
        clip: Largest norm of each parameter's gradient; 0 = no clipping.
    """

    steps: int
    lr: float
    final_lr: float
    warmup_steps: int
    weight_decay: float
    final_weight_decay: float
    clip: float

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise SettingsError(f"steps: must be 0 or more, got {self.steps}")
        if self.warmup_steps < 0 or (self.steps and self.warmup_steps >= self.steps):
            raise SettingsError(
                f"warmup_steps: must be fewer than the {self.steps} steps of the training, got {self.warmup_steps}"
            )
        if not self.lr > 0:
            raise SettingsError(f"lr: must be above 0, got {self.lr}")
        if self.clip < 0:
            raise SettingsError(f"clip: must be 0 or more, got {self.clip}")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step."""
        return learning_rate(step, steps=self.steps, warmup=self.warmup_steps, peak=self.lr, end=self.final_lr)

    def weight_decay_at(self, step: int) -> float:
        """Weight decay of a step."""
        return cosine(step, steps=self.steps, start=self.weight_decay, end=self.final_weight_decay)


def train(
    method: Method,
    data: StepBatches,
    schedule: Schedule,
    *,
    images_per_step: int,
    device: torch.device,
    seed: int,
    folder: Path | None,
    precision: Precision = "float32",
    workers: int = 0,
    log_every: int = 10,
    checkpoint_every: int = 1000,
    keep_checkpoints: int = 2,
    probe: Callable[[], float] | None = None,
    probe_every: int = 0,
    progress: Progress = SILENT,
) -> list[Row]:
    """Trains from the newest checkpoint in `folder`, or from the start, to the end.

    Every random draw of a step comes from the seed and the step's number, so a training that was stopped anywhere and
    taken up again equals one that was not: bit for bit on a CPU in float32 with the same number of threads.

    Args:
        method: What is trained.
        data: The batch of each step.
        schedule: Learning rate, weight decay and clipping.
        images_per_step: Over all processes; for images/s.
        device: Where it runs.
        seed: Of the run.
        folder: Gets `metrics.jsonl` and `checkpoints/`. None: this process (not the first) writes nothing, and reads
            nothing.
        precision: Of the forward pass. float32 on a CPU.
        workers: Processes that prepare batches ahead.
        log_every: Steps between rows of metrics.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many stay.
        probe: Scores the model that would be exported, in [0, 1].
        probe_every: Steps between probes; 0 = never.
        progress: Who is told.

    Returns:
        The rows of metrics.jsonl.

    Raises:
        TrainingError: The loss is not finite.
    """
    for setting, every in (("log_every", log_every), ("checkpoint_every", checkpoint_every)):
        if every < 1:
            raise SettingsError(f"{setting}: must be 1 or more, got {every}")
    if precision != "float32" and device.type == "cpu":
        raise SettingsError(f"precision: {precision} needs a GPU; a CPU trains in float32")
    named = dict(method.student.named_parameters())
    optimizer = torch.optim.AdamW(_groups(named), lr=schedule.lr, foreach=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    rank, _ = rank_and_world()

    first, rows = 0, _Rows(folder / "metrics.jsonl" if folder and rank == 0 else None)
    checkpoints = Checkpoints(folder / "checkpoints", keep=keep_checkpoints) if folder else None
    if checkpoints and (found := checkpoints.load(progress)):
        first, state = found
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        progress.note(f"taking up the training after step {first}")
    rows.take_up(first)

    def save(done: int) -> None:
        if checkpoints and rank == 0:
            state = {
                "method": method.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scaler": scaler.state_dict(),
            }
            checkpoints.save(done, state)

    forked = [device] if device.type == "cuda" else []
    with (
        progress.task("training", schedule.steps) as advance,
        _signals() as asked_to_stop,
        torch.random.fork_rng(forked),
    ):
        advance(first)
        source = batches(data, first, schedule.steps, workers=workers, pin=device.type == "cuda")
        window, since = time.perf_counter(), first
        for step in range(first, schedule.steps):
            torch.manual_seed(int(generator(seed, "network", step, rank).integers(1 << 62)))
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr_at(step)
                group["weight_decay"] = schedule.weight_decay_at(step) if group["decays"] else 0.0
            batch = next(source).to(device)
            with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
                loss = method.loss(batch, step)
            value = float(loss.detach())
            if any_process(not math.isfinite(value), device):
                raise TrainingError(
                    f"the loss is {value} at step {step}; lower lr, lengthen the warm-up, or raise teacher_temperature"
                )
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            for name, parameter in named.items():
                if method.is_frozen(name, step):
                    parameter.grad = None
            if schedule.clip:
                _clip_each(list(named.values()), schedule.clip)
            scaler.step(optimizer)
            scaler.update()
            method.after_step(step)

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
                    **method.monitors(step),
                    "lr": schedule.lr_at(step),
                    "weight_decay": schedule.weight_decay_at(step),
                    "images_per_second": round(speed * images_per_step, 2),
                    "eta_seconds": round((schedule.steps - done) / speed, 1),
                }
                window, since = time.perf_counter(), done
            if probe and probe_every and (done % probe_every == 0 or last):
                row |= {"step": done, "probe_map": probe()}
                progress.note(f"step {done}: probe mAP {row['probe_map']:.3f}")
                window, since = time.perf_counter(), done
            if row:
                rows.add(row)
            stop = any_process(asked_to_stop(), device)
            if stop or (done % checkpoint_every == 0 and not last):
                save(done)
            if stop:
                progress.note(f"stopped after step {done}; the same command continues")
                asked_to_stop(obey=True)
    return rows.rows


def _groups(named: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Weights decay; biases and vectors (norms) do not, as in DINO."""
    vectors = [p for name, p in named.items() if p.ndim == 1 or name.endswith(".bias")]
    chosen = {id(p) for p in vectors}
    weights = [p for p in named.values() if id(p) not in chosen]
    return [{"params": weights, "decays": True}, {"params": vectors, "decays": False}]


def _clip_each(parameters: list[nn.Parameter], largest: float) -> None:
    """Clips the norm of each parameter's gradient by itself, as in DINO (not their joint norm)."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(gradients)
    factors = [largest / (norm + 1e-6) for norm in norms]
    torch._foreach_clamp_max_(factors, 1.0)
    torch._foreach_mul_(gradients, factors)


class _Rows:
    """metrics.jsonl, one row per line; rows of steps that must be done again are dropped."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[Row] = []

    def take_up(self, step: int) -> None:
        if self.path is None:
            return
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    break  # the process died while writing this line
                if row["step"] <= step:
                    self.rows.append(row)
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


@contextmanager
def _signals() -> Iterator[Callable[..., bool]]:
    """Holds SIGTERM and SIGINT back until the step is over and saved, then lets them do what they would have done."""
    came: list[int] = []
    before: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)

    def restore() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, handler)

    def asked_to_stop(*, obey: bool = False) -> bool:
        if obey:
            restore()
            number = came[0] if came else signal.SIGTERM
            came.clear()
            os.kill(os.getpid(), number)
        return bool(came)

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            before[number] = signal.signal(number, remember)
        except ValueError:  # not the main thread: whoever runs us there handles signals
            break
    try:
        yield asked_to_stop
    finally:
        restore()
