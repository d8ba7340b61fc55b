"""Metrics of a training: metrics.jsonl, and optionally TensorBoard, Weights & Biases or MLflow."""

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from reappear.core import MissingExtra
from reappear.store import remove_scratch, write_text

from .settings import Tracker

Row = dict[str, int | float]


@runtime_checkable
class Logger(Protocol):
    """An experiment tracker."""

    def add(self, row: Row) -> None:
        """Logs one row."""
        ...

    def close(self) -> None:
        """Flushes and closes the tracker."""
        ...


class MetricsLog:
    """Writes metrics.jsonl, one row per line, and logs the same rows to an experiment tracker.

    On resume, rows after the checkpoint are dropped and all kept rows are logged to a new run of the tracker, so that
    no run has a step twice.

    Args:
        folder: Of the training; None = nothing is written.
        tracker: The experiment tracker.
        name: Of the run in the tracker.
    """

    def __init__(self, folder: Path | None, *, tracker: Tracker = "none", name: str = "") -> None:
        self.rows: list[Row] = []
        self._path = folder / "metrics.jsonl" if folder else None
        self._logger = open_logger(tracker, folder, name) if folder and tracker != "none" else None

    def resume(self, step: int) -> None:
        """Keeps the rows up to `step` that an earlier call wrote."""
        if self._path is None:
            return
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    break  # the process died while writing this line
                if isinstance(row, dict) and row.get("step", step + 1) <= step:
                    self.rows.append(row)
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in self.rows))
        for row in self.rows if self._logger else ():
            self._logger.add(row)  # type: ignore[union-attr]

    def add(self, row: Row) -> None:
        """Writes a row."""
        self.rows.append(row)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self._logger:
            self._logger.add(row)

    def close(self) -> None:
        """Closes the tracker."""
        if self._logger:
            self._logger.close()


def open_logger(tracker: Tracker, folder: Path, name: str) -> Logger:
    """A tracker that writes into `folder`, offline unless its own environment variables are set.

    Raises:
        MissingExtra: Its package is not installed.
    """
    loggers: dict[str, Callable[[Path, str], Logger]] = {
        "tensorboard": _TensorBoard,
        "wandb": _WeightsAndBiases,
        "mlflow": _Mlflow,
    }
    return loggers[tracker](folder, name)


def require_tracker(tracker: Tracker) -> None:
    """Checks that the package of a tracker is installed.

    Raises:
        MissingExtra: It is not.
    """
    if tracker != "none":
        _package(tracker, tracker)


def _package(module: str, extra: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when the package is imported
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(f"tracker: {extra} needs a package: pip install 'reappear[{extra}]'") from error


class _TensorBoard:
    def __init__(self, folder: Path, name: str) -> None:
        _package("tensorboard", "tensorboard")
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        remove_scratch(folder / "tensorboard", "events.out.tfevents.*")
        self._writer = writer(str(folder / "tensorboard"))

    def add(self, row: Row) -> None:
        for key, value in row.items():
            if key != "step":
                self._writer.add_scalar(key, value, int(row["step"]))

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, name: str) -> None:
        wandb = _package("wandb", "wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(project="reappear", name=name, dir=str(folder), mode=mode, save_code=False)

    def add(self, row: Row) -> None:
        self._run.log({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, folder: Path, name: str) -> None:
        self._mlflow = _package("mlflow", "mlflow")
        store = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self._mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", store))
        self._mlflow.start_run(run_name=name)

    def add(self, row: Row) -> None:
        values = {key: float(value) for key, value in row.items() if key != "step"}
        self._mlflow.log_metrics(values, step=int(row["step"]))

    def close(self) -> None:
        self._mlflow.end_run()
