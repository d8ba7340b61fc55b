import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reappear.core import InputError, SettingsError, TrainingError
from reappear.models import create_model
from reappear.train.batch import ViewBatch
from reappear.train.datasets import ViewDataset
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule, clip_each, decay_groups, make_optimizer, scale_layers
from reappear.train.samplers import IdentitySampler
from reappear.train.settings import TrainSettings
from reappear.train.task import Labels, Phase, StepResult, Task
from reappear.train.views import ViewSettings

from .tables import make_table

IMAGES = [np.random.default_rng(i).integers(0, 256, (12, 6, 3), dtype=np.uint8) for i in range(12)]


class MeanColour(Task[ViewBatch]):
    """Learns each identity's mean colour through a layer with dropout, so that random numbers matter."""

    def __init__(self, poison: int | None = None, phases: tuple[int, ...] = (1000,)) -> None:
        torch.manual_seed(0)
        self.student = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.poison, self.ends = poison, phases
        self.seen: list[int] = []
        self.skipped: list[int] = []
        self.relabelled: list[int] = []

    @property
    def backbone(self) -> nn.Module:
        return self.student

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """Identities of a phase are drawn from the network as it is when the phase begins."""
        first = max([0, *(end for end in self.ends if end <= step)])
        end = min(end for end in self.ends if end > step)
        if labels is None:
            self.relabelled.append(step)
            weight = float(self.student[0].weight.detach().sum())
            labels = {"identity": np.roll(np.repeat(np.arange(3), 4), int(weight * 1e6) % 12)}
        return Phase(first, end, _data(labels["identity"]), labels)

    def training_step(self, batch: ViewBatch, step: int) -> StepResult:
        self.seen.append(step)
        colour = batch.views[0].float().mean(dim=(-2, -1)).flatten(0, 1) / 255
        value = (self.student(colour) - colour).square().mean()
        return StepResult(value * math.nan if step == self.poison else value, lambda: {"watched": step})

    def on_step_skipped(self) -> None:
        self.skipped.append(self.seen[-1])

    def is_frozen(self, parameter: str, step: int) -> bool:
        return parameter == "2.weight" and step < 2


def _data(identity: np.ndarray) -> ViewDataset:
    sampler = IdentitySampler(identity, images_per_step=4, steps=1000, stages=((0.0, 2),), seed=0)
    crops = ViewSettings(local_views=0).build(height=8, width=4, local_height=4, local_width=2)
    return ViewDataset(IMAGES, make_table(identity), sampler, crops, seed=0)


SETTINGS = TrainSettings(
    images_per_step=4, lr=0.01, final_lr=1e-4, warmup=0.2, log_every=1, checkpoint_every=2, bad_steps=10
)


def _train(
    task: MeanColour, folder: Path, steps: int = 6, validate: object = None, **changes: object
) -> list[dict[str, int | float]]:
    settings = dataclasses.replace(SETTINGS, **changes)
    return train(task, Schedule(steps, settings), settings, Run(folder, validate=validate))


def test_rows_of_metrics(tmp_path: Path) -> None:
    rows = _train(MeanColour(), tmp_path, validate=lambda: (0.25, 0.5), validation_every=4)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows == [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "watched", "lr", "weight_decay", "images_per_second", "eta_seconds"} <= rows[0].keys()
    assert [row["step"] for row in rows if "validation_map" in row] == [4, 6]
    assert (rows[-1]["validation_map"], rows[-1]["validation_rank_1"]) == (0.25, 0.5)
    assert rows[-1]["eta_seconds"] == 0
    assert rows[0]["lr"] == 0.01
    assert rows[0]["weight_decay"] == pytest.approx(0.04)


def test_resumed_training_equals_uninterrupted_training(tmp_path: Path) -> None:
    whole = MeanColour()
    expected = _train(whole, tmp_path / "whole")
    with pytest.raises(TrainingError):
        _train(MeanColour(poison=5), tmp_path / "broken", bad_steps=0)
    again = MeanColour()
    rows = _train(again, tmp_path / "broken")
    assert again.seen == [4, 5]
    for a, b in zip(whole.student.parameters(), again.student.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [row["loss"] for row in rows] == [row["loss"] for row in expected]


def test_loss_that_is_not_finite_raises_training_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is nan at step 3 .* in the 0 steps before; lower --lr or"):
        _train(MeanColour(poison=3), tmp_path, bad_steps=0)


def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path: Path) -> None:
    method = MeanColour(poison=3)
    rows = _train(method, tmp_path, bad_steps=1)
    assert [row["skipped_steps"] for row in rows] == [0, 0, 0, 1, 1, 1]
    assert ["loss" in row for row in rows] == [True, True, True, False, True, True]
    assert method.skipped == [3]
    assert all(bool(torch.isfinite(p).all()) for p in method.student.parameters())


def test_a_gradient_that_is_not_finite_is_skipped_too(tmp_path: Path) -> None:
    method = MeanColour()
    handle = method.student[0].weight.register_hook(lambda grad: grad * math.inf)
    before = method.student[0].weight.detach().clone()
    with pytest.raises(TrainingError, match=r"the norm of its gradient (inf|nan), as in the 2 steps before"):
        _train(method, tmp_path, bad_steps=2)
    handle.remove()
    assert torch.equal(method.student[0].weight, before)
    assert method.skipped == [0, 1, 2]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("frozen", [False, True])
def test_steps_are_skipped_alike_in_every_precision(tmp_path: Path, precision: str, frozen: bool) -> None:
    """Nothing moves, each is counted, and the training ends after `bad_steps`, also while the loss is scaled."""
    moved: list[int] = []

    class Watched(MeanColour):
        def after_step(self, step: int) -> None:
            moved.append(step)

    method = Watched()
    # The gradient of a frozen parameter is not used, so it may be what it likes.
    parameter = method.student[2].weight if frozen else method.student[0].weight
    parameter.register_hook(lambda gradient: gradient * math.inf if len(method.seen) > 1 or frozen else gradient)
    with pytest.raises(TrainingError, match="in the 2 steps before"):
        _train(method, tmp_path, bad_steps=2, precision=precision)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert moved == ([0, 1] if frozen else [0])
    assert method.skipped == ([2, 3, 4] if frozen else [1, 2, 3])
    assert [row["skipped_steps"] for row in rows] == ([0, 0, 1, 2] if frozen else [0, 1, 2])
    assert all(bool(torch.isfinite(p).all()) for p in method.student.parameters())


def test_search_for_the_loss_scale_counts_skipped_steps(tmp_path: Path) -> None:
    """The first gradients of a float16 training overflow until the scale is small enough."""
    method = MeanColour()
    method.student[0].weight.register_hook(lambda gradient: gradient * math.inf if len(method.seen) <= 3 else gradient)
    rows = _train(method, tmp_path, precision="float16", bad_steps=3)
    assert [row["skipped_steps"] for row in rows] == [1, 2, 3, 3, 3, 3]
    assert method.skipped == [0, 1, 2]
    checkpoint = max((tmp_path / "checkpoints").glob("step-*.pt"))
    assert torch.load(checkpoint, weights_only=True)["scaler"]["scale"] == 65_536 / 2**3


def test_resume_keeps_the_count_of_skipped_steps(tmp_path: Path) -> None:
    whole = MeanColour(poison=1)
    expected = _train(whole, tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        _train(MeanColour(poison=1), tmp_path / "broken", validate=lambda: 1 / 0, validation_every=5)
    rows = _train(MeanColour(poison=1), tmp_path / "broken")
    assert [row["skipped_steps"] for row in rows] == [row["skipped_steps"] for row in expected]


def test_scaled_gradients_are_unscaled_before_they_are_clipped(tmp_path: Path) -> None:
    """The public code clips gradients of a loss that is scaled by 65,536, so nearly all of them."""
    exact, half = MeanColour(), MeanColour()
    plain = _train(exact, tmp_path / "plain", steps=2, optimizer="sgd")
    scaled = _train(half, tmp_path / "half", steps=2, optimizer="sgd", precision="float16")
    assert scaled[0]["gradient_norm"] == pytest.approx(plain[0]["gradient_norm"], rel=0.02)
    assert plain[0]["gradient_norm"] < 3.0
    for a, b in zip(exact.student.parameters(), half.student.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_optimiser_is_the_asked_one(tmp_path: Path) -> None:
    groups = MeanColour().parameter_groups()
    assert isinstance(make_optimizer("adamw", groups, 0.1), torch.optim.AdamW)
    assert make_optimizer("sgd", groups, 0.1).defaults["momentum"] == 0.9


def test_frozen_parameters_stay_for_their_steps(tmp_path: Path) -> None:
    method = MeanColour()
    before = method.student[2].weight.detach().clone()
    _train(method, tmp_path / "two", steps=2)
    assert torch.equal(method.student[2].weight, before)
    _train(method, tmp_path / "three", steps=3)
    assert not torch.equal(method.student[2].weight, before)


def test_training_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    method = MeanColour()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    _train(method, tmp_path, steps=2)
    assert torch.equal(torch.rand(1), expected)


def test_biases_and_vectors_do_not_decay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decaying, still = decay_groups(network.named_parameters())
    assert [tuple(p.shape) for p in decaying.parameters] == [(4, 3, 3, 3), (2, 4)]
    assert decaying.decays
    assert all(p.ndim == 1 for p in still.parameters)
    assert not still.decays


def test_layers_of_the_backbone_learn_more_slowly_the_earlier_they_are() -> None:
    backbone = create_model("vit_tiny", depth=3)
    network = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(192, 4)})
    groups = scale_layers(decay_groups(network.named_parameters()), backbone, 0.5)
    scale = {id(p): group.lr_scale for group in groups for p in group.parameters}
    assert len(scale) == sum(len(group.parameters) for group in groups) == len(list(network.parameters()))
    by_layer = [scale[id(backbone.blocks[i].mlp.fc1.weight)] for i in range(3)]
    assert by_layer == [0.5**3, 0.5**2, 0.5]
    assert scale[id(backbone.patch_embed.proj.weight)] == 0.5**4
    assert scale[id(network["head"].weight)] == 1
    assert {group.decays for group in groups if id(network["head"].bias) in map(id, group.parameters)} == {False}
    assert scale_layers(groups, backbone, 1.0) is groups


def test_each_parameters_gradient_is_clipped_by_itself() -> None:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    for parameter, size in zip(parameters, (0.5, 4.0), strict=False):
        parameter.grad = torch.tensor([size, 0.0])
    clip_each(parameters, 3.0)
    assert parameters[0].grad.norm() == pytest.approx(0.5)
    assert parameters[1].grad.norm() == pytest.approx(3.0, abs=1e-4)
    assert parameters[2].grad is None


def test_labels_of_a_phase_are_kept_with_the_checkpoint(tmp_path: Path) -> None:
    """Resumed inside a phase, a training goes on with its labels, though the network would give others by now."""
    phases = (3, 7, 1000)
    whole = MeanColour(phases=phases)
    expected = _train(whole, tmp_path / "whole", steps=9)
    assert whole.relabelled == [0, 3, 7]
    with pytest.raises(TrainingError):
        _train(MeanColour(poison=5, phases=phases), tmp_path / "broken", steps=9, bad_steps=0)
    again = MeanColour(phases=phases)
    rows = _train(again, tmp_path / "broken", steps=9)
    assert again.relabelled == [7]  # resumed after step 4
    assert [row["loss"] for row in rows] == [row["loss"] for row in expected]
    for a, b in zip(whole.student.parameters(), again.student.parameters(), strict=True):
        assert torch.equal(a, b)


def test_resumed_between_two_phases_the_next_is_labelled_anew(tmp_path: Path) -> None:
    phases = (4, 1000)
    whole = MeanColour(phases=phases)
    expected = _train(whole, tmp_path / "whole")
    with pytest.raises(TrainingError):
        _train(MeanColour(poison=4, phases=phases), tmp_path / "broken", bad_steps=0)
    again = MeanColour(phases=phases)
    rows = _train(again, tmp_path / "broken")
    assert again.seen == [4, 5]
    assert again.relabelled == [4]
    assert [row["loss"] for row in rows] == [row["loss"] for row in expected]


def test_method_without_teacher_exports_the_student_alone() -> None:
    with pytest.raises(SettingsError, match=r"^keep: "):
        MeanColour().export("teacher")


def test_parts_must_divide_the_identities_of_a_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^accumulate: "):
        _train(MeanColour(), tmp_path, accumulate=3)
