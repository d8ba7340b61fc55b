import json
import sys
import types
from pathlib import Path

import pytest

from reappear.core import MissingExtra
from reappear.train.metrics_log import MetricsLog


def test_rows_of_steps_to_do_again_are_dropped(tmp_path: Path) -> None:
    first = MetricsLog(tmp_path)
    first.resume(0)
    for step in (1, 2, 3):
        first.add({"step": step, "loss": 1.0 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed here
    second = MetricsLog(tmp_path)
    second.resume(2)
    assert [row["step"] for row in second.rows] == [1, 2]
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_missing_tracker_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(MissingExtra, match=rf"tracker: {tracker} needs a package: pip install 'reappear\[{tracker}\]'"):
        MetricsLog(tmp_path, tracker=tracker)


def test_processes_without_a_folder_open_no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert MetricsLog(None, tracker="wandb").rows == []


def test_wandb_is_offline_and_gets_all_rows_again_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    started: list[dict[str, object]] = []
    calls: list[tuple[dict[str, float], int]] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            calls.append((values, step))

        def finish(self) -> None:
            calls.append(({}, -1))

    def init(**given: object) -> Run:
        started.append(given)
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for stop in (0, 1):
        log = MetricsLog(tmp_path, tracker="wandb", name="model")
        log.resume(stop)
        log.add({"step": stop + 1, "loss": 0.5})
        log.close()
    assert all(given["mode"] == "offline" and given["dir"] == str(tmp_path) for given in started)
    assert calls == [({"loss": 0.5}, 1), ({}, -1), ({"loss": 0.5}, 1), ({"loss": 0.5}, 2), ({}, -1)]


def test_mlflow_writes_into_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    calls: list[object] = []
    fake = types.SimpleNamespace(
        set_tracking_uri=calls.append,
        start_run=lambda run_name: calls.append(run_name),
        log_metrics=lambda values, step: calls.append((values, step)),
        end_run=lambda: calls.append("end"),
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    log = MetricsLog(tmp_path, tracker="mlflow", name="model")
    log.resume(0)
    log.add({"step": 3, "loss": 1})
    log.close()
    assert calls == [f"sqlite:///{tmp_path / 'mlflow.db'}", "model", ({"loss": 1.0}, 3), "end"]


def test_tensorboard_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            calls.append((folder,))

        def add_scalar(self, key: str, value: float, step: int) -> None:
            calls.append((key, value, step))

        def close(self) -> None:
            calls.append(("closed",))

    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    old = tmp_path / "tensorboard" / "events.out.tfevents.old"
    old.parent.mkdir()
    old.touch()
    log = MetricsLog(tmp_path, tracker="tensorboard")
    log.add({"step": 2, "loss": 0.25})
    log.close()
    assert not old.exists()
    assert calls == [(str(tmp_path / "tensorboard"),), ("loss", 0.25, 2), ("closed",)]
