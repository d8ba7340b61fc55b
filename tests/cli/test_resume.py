"""A training that was stopped, called again with other settings: those that change no result, and others."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch

from reappear.cli.app import main
from reappear.pipeline.pretrain import pretrain
from tests.cli.test_signals import assert_stopped, start, wait_for
from tests.pipeline.pretrain_fixture import make_workspace
from tests.pipeline.test_pretrain import TINY

OPTIONS = ("--labels", "found", "--backbone", "cnn6", "--set", "arguments={width: 4}", "--images-per-step", "12",
           "--set", "method.curriculum=[[0, 2]]", "--method.head-width", "16", "--device", "cpu", "--steps", "60",
           "--checkpoint-every", "3")  # fmt: skip
FREE = ("--workers", "1", "--memory-mb", "0", "--log-every", "7", "--checkpoint-every", "40",
        "--keep-checkpoints", "1", "--bad-steps", "3")  # fmt: skip


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", *map(str, arguments), "-q"])
    return int(ended.value.code or 0), capsys.readouterr().err


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_stopped_training_goes_on_with_other_operational_settings_and_with_no_others(tmp_path, capsys) -> None:
    work = tmp_path / "work"
    make_workspace(work)
    models = work / "models"
    assert call(capsys, work, "--name", "undisturbed", *OPTIONS)[0] == 0
    process = start("pretrain", work, "--name", "stopped", *OPTIONS)
    wait_for(lambda: list(models.glob("stopped.partial/checkpoints/step-*.pt")), process)
    os.kill(process.pid, signal.SIGTERM)
    assert_stopped(process)
    checkpoints = {path: path.read_bytes() for path in models.glob("stopped.partial/checkpoints/*")}
    assert checkpoints

    for changes, named in (("--lr", "0.01"), r"another lr (0.003, now 0.01)"), (("--seed", "5"), "another seed (0, "):
        code, err = call(capsys, work, "--name", "stopped", *OPTIONS, *FREE, *changes)
        assert code == 1
        assert named in err
        assert {path: path.read_bytes() for path in models.glob("stopped.partial/checkpoints/*")} == checkpoints

    code, err = call(capsys, work, "--name", "stopped", *OPTIONS, *FREE)
    assert code == 0, err
    assert "resuming the training after step" in err
    assert weights(models / "stopped") == weights(models / "undisturbed")

    code, err = call(capsys, work, "--name", "undisturbed", *OPTIONS, *FREE, "--threads", "2")
    assert code == 0
    assert "already done" in err


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"workers": 1, "memory_mb": 0, "log_every": 3, "checkpoint_every": 1, "keep_checkpoints": 1}, 0.0),
        ({"threads": 2}, 1e-4),  # the one step that is left rounds in another way
    ],
)
def test_the_rest_of_a_training_under_other_operational_settings(tmp_path, monkeypatch, changes, tolerance) -> None:
    work = make_workspace(tmp_path)
    pretrain(work, "undisturbed", TINY, labels="found")
    with monkeypatch.context() as patch:
        patch.setattr("reappear.models.Embedder.save", lambda *given, **named: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(work, "stopped", TINY, labels="found")
    assert list(work.root.glob("models/stopped.partial/checkpoints/step-*4-*.pt"))
    pretrain(work, "stopped", dataclasses.replace(TINY, **changes), labels="found")
    one, other = (safetensors.torch.load(weights(work.model(name))) for name in ("undisturbed", "stopped"))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=tolerance, atol=tolerance)
