from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reappear.core import SettingsError
from reappear.losses import circle_logits
from reappear.methods.mgn.settings import MgnSettings
from reappear.methods.mgn.task import Mgn
from reappear.train.loop import Run, train
from reappear.train.optimizer import ParameterGroup, Schedule, make_optimizer, set_rates

from .setups import make_setup


def _task(**changes: object) -> Mgn:
    return Mgn(make_setup(MgnSettings(images=4, part_width=6, **changes), images_per_step=24))


def test_loss_is_the_mean_over_parts_and_over_five_vectors() -> None:
    task = _task(freeze=0.0)
    batch = task.phase(0, None).data[0]
    identity = batch.identity.repeat_interleave(4)
    features = task.student.pooled(batch.images.flatten(0, 1))
    vectors = features.view(24, 8, 6)
    expected = 0.0
    for part in range(8):
        weights = task.student.head.classifiers[part]
        cosines = F.normalize(vectors[:, part], dim=-1) @ F.normalize(weights, dim=-1).T
        logs = F.log_softmax(circle_logits(cosines, identity, margin=0.35, scale=64.0), -1)
        target = torch.full_like(logs, 0.1 / (logs.shape[1] - 1)).scatter(1, identity[:, None], 0.9)
        expected = expected - (target * logs).sum(1).mean() / 8
    for parts in ([0], [1], [2], [3, 4], [5, 6, 7]):
        distance = torch.cdist(vectors[:, parts].flatten(1), vectors[:, parts].flatten(1))
        for i in range(24):
            gap = distance[i][identity == identity[i]].max() - distance[i][identity != identity[i]].min()
            expected = expected + torch.log1p(torch.exp(gap)) / 24 / 5
    torch.testing.assert_close(task.training_step(batch, 0).loss, expected, rtol=1e-4, atol=1e-4)


def test_a_model_of_an_earlier_fine_tuning_is_a_start(tmp_path: Path) -> None:
    first = _task().export("student")
    for parameter in first.backbone.parameters():
        parameter.data.mul_(1.1)
    first.save(tmp_path / "m")
    method, init = MgnSettings(images=4, part_width=6), tmp_path / "m"
    given = {"backbone": "mgn", "arguments": first.config["arguments"], "init": init, "images_per_step": 24}
    second = Mgn(make_setup(method, **given)).export("student")
    assert second.config == first.config
    torch.testing.assert_close(second.backbone.state_dict(), first.backbone.state_dict(), rtol=0, atol=0)
    with pytest.raises(SettingsError, match=r"method\.part_width: must be 6"):
        Mgn(make_setup(replace(method, part_width=8), **given))


def test_heads_alone_are_trained_at_first(tmp_path) -> None:
    task = _task(freeze=0.4)
    before = {name: value.clone() for name, value in task.student.state_dict().items()}
    settings = task.setup.training
    states = []
    after_step = task.after_step

    def keep(step: int) -> None:
        after_step(step)
        states.append({name: value.clone() for name, value in task.student.state_dict().items()})

    task.after_step = keep
    train(task, Schedule(10, settings), settings, Run(tmp_path))
    frozen = [name for name in before if name.startswith(("backbone.shared", "backbone.branches"))]
    assert all(torch.equal(states[3][name], before[name]) for name in frozen)  # running statistics too
    assert any(not torch.equal(states[4][name], before[name]) for name in frozen)
    assert not torch.equal(states[0]["head.classifiers"], before["head.classifiers"])


def test_saves_the_vector_of_all_parts(tmp_path) -> None:
    embedder = _task().export("student")
    assert embedder.config["architecture"] == "mgn"
    assert embedder.config["arguments"]["resnet"] == "resnet18_ibn"
    assert embedder([np.zeros((64, 32, 3), np.uint8)]).shape == (1, 48)
    embedder.save(tmp_path / "m")


def test_nesterov_looks_ahead_by_its_momentum() -> None:
    """After g it has moved by lr (g + 0.9 g), where plain momentum moves by lr g."""
    for kind, moved in (("sgd", 0.1), ("nesterov", 0.19)):
        weight = torch.nn.Parameter(torch.tensor([4.0]))
        optimizer = make_optimizer(kind, [ParameterGroup([weight])], 0.1)
        weight.grad = torch.tensor([1.0])
        optimizer.step()
        assert weight.item() == pytest.approx(4.0 - moved)


@pytest.mark.parametrize(("kind", "moved"), [("adam", 0.1), ("adamw", 0.1 * 0.5 * 4.0)])
def test_decay_of_adam_is_a_part_of_the_gradient(kind: str, moved: float) -> None:
    """So its first step has the length of the learning rate, however large the weight is."""
    weight = torch.nn.Parameter(torch.tensor([4.0]))
    optimizer = make_optimizer(kind, [ParameterGroup([weight])], 0.1)
    set_rates(optimizer, lr=0.1, weight_decay=0.5)
    weight.grad = torch.tensor([0.0])
    optimizer.step()
    assert weight.item() == pytest.approx(4.0 - moved)
