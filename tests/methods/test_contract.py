"""What every training method must do, whatever it learns."""

import copy
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reappear.core import SettingsError
from reappear.methods.registry import METHODS, spec_of
from reappear.methods.settings import MethodSettings
from reappear.pipeline.finetune import FinetuneSettings
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.settings import resolve, to_plain
from reappear.train.batch import Batch
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule
from reappear.train.task import StepResult, Task

from .setups import make_setup

methods = pytest.mark.parametrize("method", [spec.settings() for spec in METHODS.values()], ids=list(METHODS))


def _build(method: MethodSettings, **changes: object) -> Task[Batch]:
    spec = spec_of(method)
    labels = "found" if spec.labels == "identities" else spec.labels
    return spec.build(make_setup(method, labels=labels, log_every=1, checkpoint_every=2, **changes))


def _train(task: Task[Batch], folder: Path, steps: int) -> list[dict[str, int | float]]:
    settings = task.setup.training
    return train(task, Schedule(steps, settings), settings, Run(folder))


def _batch(task: Task[Batch], step: int) -> Batch:
    return task.phase(step, None).data[step].augmented()


@methods
def test_name_settings_and_recipe_agree(method: MethodSettings) -> None:
    spec = METHODS[method.kind]
    assert type(method) is spec.settings
    assert spec.title
    if spec.command == "pretrain":
        settings = resolve(PretrainSettings, {"views": {"local_views": "0"}}, {"method": method.kind})
    else:
        settings = resolve(FinetuneSettings, {}, {"method": method.kind})
    assert settings.method == method
    assert to_plain(settings)["method"]["kind"] == method.kind


def test_settings_of_methods_do_not_import_torch() -> None:
    code = "import sys, reappear.methods.registry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@methods
def test_a_step_teaches_every_parameter(method: MethodSettings) -> None:
    task = _build(method)
    result = task.training_step(_batch(task, 0), 0)
    assert result.loss.shape == ()
    assert torch.isfinite(result.loss)
    result.loss.backward()
    grouped = [id(p) for group in task.parameter_groups() for p in group.parameters]
    trained = {name: p for name, p in task.student.named_parameters() if p.requires_grad}
    assert sorted(grouped) == sorted(map(id, trained.values()))
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    task.after_step(0)
    metrics = result.metrics()
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values())
    assert json.loads(json.dumps(metrics)) == metrics


@methods
def test_a_skipped_step_changes_nothing(method: MethodSettings, tmp_path: Path) -> None:
    """Also not the running statistics of batch norm, which its forward passes move."""
    task = _build(method, accumulate=2)
    training_step, states = task.training_step, []

    def poisoned(batch: Batch, step: int) -> StepResult:
        states.append(copy.deepcopy(task.state_dict()))
        result = training_step(batch, step)
        return replace(result, loss=result.loss * math.nan) if step == 1 else result

    task.training_step = poisoned
    rows = _train(task, tmp_path, 3)
    assert rows[-1]["skipped_steps"] == 1
    before, between, after = states[2], states[3], states[4]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(between, before, rtol=0, atol=0)
    assert torch.isfinite(torch.tensor(rows[-1]["loss"]))


@methods
def test_resumed_training_equals_uninterrupted_training(method: MethodSettings, tmp_path: Path) -> None:
    whole = _build(method)
    expected = _train(whole, tmp_path / "whole", 5)

    class _Stop(Exception):
        pass

    broken = _build(method)
    after_step = broken.after_step

    def stop(step: int) -> None:
        if step == 3:
            raise _Stop
        after_step(step)

    broken.after_step = stop
    with pytest.raises(_Stop):
        _train(broken, tmp_path / "broken", 5)
    again = _build(method)
    rows = _train(again, tmp_path / "broken", 5)
    torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert [row["loss"] for row in rows] == [row["loss"] for row in expected]


@methods
def test_the_seed_decides_the_first_weights(method: MethodSettings) -> None:
    first, same, other = (_build(method, seed=seed).state_dict()["student"] for seed in (0, 0, 1))
    torch.testing.assert_close(first, same, rtol=0, atol=0)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@methods
def test_exports_a_backbone(method: MethodSettings) -> None:
    task = _build(method)
    for keep in ("student", "teacher"):
        if keep == "teacher" and task.teacher is None:
            with pytest.raises(SettingsError):
                task.export(keep)
            if spec_of(method).command == "pretrain":  # also before the steps before a training
                with pytest.raises(SettingsError, match=r"^keep: "):
                    method.check(replace(task.setup.training, keep=keep))
            continue
        embedder = task.export(keep)
        vectors = embedder([np.zeros((20, 10, 3), np.uint8)] * 2)
        assert vectors.shape == (2, task.backbone.num_features)
        training = task.setup.training
        assert (embedder.preprocessing.height, embedder.preprocessing.width) == (training.height, training.width)


@methods
def test_a_teacher_that_is_kept_has_the_statistics_of_training(method: MethodSettings, tmp_path: Path) -> None:
    task = _build(method)
    if task.teacher is None:
        return
    before = {name: value.clone() for name, value in task.teacher.backbone.named_buffers() if "running" in name}
    _train(task, tmp_path, 3)
    after = dict(task.teacher.backbone.named_buffers())
    assert before
    assert all(not torch.equal(value, after[name]) for name, value in before.items())


@methods
def test_batches_depend_on_seed_and_step_alone(method: MethodSettings) -> None:
    task, other = _build(method), _build(method)
    for step in (3, 0):
        a, b = _batch(task, step), _batch(other, step)
        assert type(a) is type(b)
        torch.testing.assert_close(vars(a), vars(b), rtol=0, atol=0)
    assert len(np.unique(_batch(task, 0).identity.numpy())) > 1


@methods
def test_accumulated_parts_must_be_even(method: MethodSettings, tmp_path: Path) -> None:
    task = _build(method)
    task.setup = replace(task.setup, training=replace(task.setup.training, accumulate=7))
    with pytest.raises(Exception, match=r"^accumulate: "):
        _train(task, tmp_path, 2)
