import copy
import math

import pytest
import torch
from torch import nn

from reappear.core import SettingsError
from reappear.losses import IdentityDistillationLoss
from reappear.methods.cion.settings import CionSettings
from reappear.methods.cion.task import Cion
from reappear.methods.network import Network, unfuse_attention
from reappear.models import DistillationHead, create_model
from reappear.models.preprocessing import Preprocessing
from reappear.train.batch import ViewBatch

from .setups import make_setup

K = 12

HALF = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def _network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    backbone = create_model("cnn6", width=4)
    head = DistillationHead(backbone.num_features, hidden=8, bottleneck=6, prototypes=K, batch_norm=True)
    return Network(backbone, head, preprocessing=HALF)


def _batch(ids: int = 3, images: int = 2, seed: int = 0, locals_: int = 1) -> ViewBatch:
    random = torch.Generator().manual_seed(seed)
    sizes = [(16, 8)] * 2 + [(8, 8)] * locals_
    views = [torch.randint(0, 256, (ids, images, 3, *size), generator=random, dtype=torch.uint8) for size in sizes]
    return ViewBatch(views, torch.arange(ids))


HEAD = {"head_hidden": 8, "head_bottleneck": 6, "prototypes": K, "curriculum": ((0.0, 2),)}


def _cion(seed: int = 0, **changes: object) -> Cion:
    return Cion(make_setup(CionSettings(**{**HEAD, "teacher_temperature": 0.04, **changes}), seed=seed))


def _logits(network: Network, views: list[torch.Tensor]) -> torch.Tensor:
    return network.head.compare(network(views)[1])


def test_vectors_have_an_axis_each_for_views_people_and_images() -> None:
    features, vectors = _network()(_batch().views)
    assert features.shape == (3, 3, 2, 16)
    assert vectors.shape == (3, 3, 2, 6)


def test_views_of_one_size_need_not_follow_each_other() -> None:
    network = _network().eval()
    views = _batch(locals_=1).views
    _, vectors = network(views)
    _, mixed = network([views[0], views[2], views[1]])
    torch.testing.assert_close(mixed[[0, 2, 1]], vectors)


def test_strided_convolutions_of_few_channels_learn_what_they_should() -> None:
    """In channels-last order, oneDNN would write beyond its memory (its issue 6035)."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 16, 1, 2, bias=False)
    images = torch.randint(0, 256, (2, 4, 3, 64, 32), dtype=torch.uint8)
    pixels = (images.flatten(0, 1).double() / 255 - 0.5) / 0.25
    exact = nn.functional.conv2d(pixels, layer.weight.detach().double().requires_grad_(), stride=2)
    backbone = nn.Sequential(layer, nn.Flatten())
    head = DistillationHead(16 * 32 * 16, hidden=4, bottleneck=4, prototypes=2)
    network = Network(backbone, head, preprocessing=HALF)
    sizes: list[torch.Size] = []
    layer.register_forward_hook(lambda _, given, made: sizes.append(given[0].shape))
    features, _ = network([images])
    assert sizes == [(8, 3, 32, 16)]  # every other pixel: the failing layer is not there at all
    torch.testing.assert_close(features.flatten(0, 2), exact.flatten(1).float(), rtol=1e-4, atol=1e-5)
    features.square().sum().backward()
    expected = 2 * torch.einsum("nohw,nihw->oi", exact, pixels[:, :, ::2, ::2])
    torch.testing.assert_close(layer.weight.grad.flatten(1), expected.float(), rtol=1e-4, atol=1e-2)


def test_pixels_are_normalised_by_the_networks_colours() -> None:
    network = _network()
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(network._normalise(images), torch.full((1, 3, 2, 2), 2.0))


def test_the_teacher_sees_global_views_only_and_gets_no_gradient() -> None:
    method = _cion()
    seen: list[int] = []
    method.teacher.backbone.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    method.training_step(_batch(), 0).loss.backward()
    assert seen == [12]  # 2 views x 3 people x 2 images
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.student.parameters())


def test_a_step_is_eq_9_then_eq_8_then_the_teacher() -> None:
    method = _cion(momentum=0.9)
    batch = _batch()
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher)
    with torch.no_grad():
        said = _logits(teacher, batch.views[:2])
    heard = _logits(student, batch.views)
    torch.testing.assert_close(method.training_step(batch, 0).loss, IdentityDistillationLoss(K)(heard, said))
    torch.testing.assert_close(method.objective.center, torch.zeros(K))
    method.after_step(0)
    torch.testing.assert_close(method.objective.center, 0.1 * said.mean(dim=(0, 1, 2)))


def test_schedules_reach_their_ends() -> None:
    method = _cion(momentum=0.9, first_teacher_temperature=0.02, teacher_temperature_warmup=0.4, freeze_prototypes=0.2)
    assert method.momentum(0) == pytest.approx(0.9)
    assert method.momentum(10) == pytest.approx(1.0)
    assert [method.temperature(step) for step in (0, 2, 4, 9)] == pytest.approx([0.02, 0.03, 0.04, 0.04])
    assert [method.is_frozen("head.prototypes", step) for step in (0, 1, 2)] == [True, True, False]
    assert not method.is_frozen("head.mlp.0.weight", 0)


def test_the_warmed_temperature_is_used() -> None:
    batch = _batch()
    warm = _cion(first_teacher_temperature=0.5, teacher_temperature_warmup=0.5).training_step(batch, 0).loss
    cold = _cion(first_teacher_temperature=0.04).training_step(batch, 0).loss
    assert not torch.isclose(warm, cold)


def test_metrics_detect_collapse() -> None:
    method = _cion()
    result = method.training_step(_batch(), 0)
    method.after_step(0)
    healthy = result.metrics()
    assert 0 < healthy["teacher_entropy"] <= healthy["batch_entropy"] <= math.log(K) + 1e-6
    one = _batch()
    same = ViewBatch([view[:1, :1].expand_as(view).contiguous() for view in one.views[:1]] * 2, one.identity)
    result = method.training_step(same, 0)
    method.after_step(0)
    collapsed = result.metrics()
    assert collapsed["batch_entropy"] == pytest.approx(collapsed["teacher_entropy"], abs=1e-4)
    assert collapsed["feature_spread"] < 1e-3 < healthy["feature_spread"]


def test_state_goes_round() -> None:
    method, other = _cion(), _cion(1)
    method.training_step(_batch(), 0)
    method.after_step(0)
    other.load_state_dict(method.state_dict())
    torch.testing.assert_close(
        other.training_step(_batch(seed=1), 1).loss, method.training_step(_batch(seed=1), 1).loss
    )


def test_one_image_each_is_dino() -> None:
    method = _cion()
    batch = _batch(ids=6, images=1)
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher)
    target = torch.softmax(_logits(teacher, batch.views[:2]).detach() / 0.04, dim=-1)
    log = torch.log_softmax(_logits(student, batch.views) / 0.1, dim=-1)
    pairs = [-(target[g] * log[v]).sum(-1).mean() for g in range(2) for v in range(3) if g != v]
    torch.testing.assert_close(method.training_step(batch, 0).loss, torch.stack(pairs).mean())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.5}, "momentum: must be"),
        ({"first_teacher_temperature": 0.0}, "first_teacher_temperature: must be"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        _cion(**changes)


@pytest.mark.slow
def test_a_hundred_steps_tell_people_apart_and_do_not_collapse() -> None:
    method = Cion(make_setup(CionSettings(**HEAD, momentum=0.99), steps=100))
    optimizer = torch.optim.AdamW(method.student.parameters(), lr=3e-3)
    colours = torch.rand(8, 1, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 160

    def batch(step: int) -> ViewBatch:
        random = torch.Generator().manual_seed(step)
        sizes = [(16, 8)] * 2 + [(8, 8)]
        views = [(colours + 90 * torch.rand(8, 2, 3, *size, generator=random)).to(torch.uint8) for size in sizes]
        return ViewBatch(views, torch.arange(8))

    for step in range(100):
        result = method.training_step(batch(step), step)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        method.after_step(step)
    watched = result.metrics()
    assert watched["batch_entropy"] - watched["teacher_entropy"] > 0.5
    assert watched["teacher_entropy"] < 0.8 * math.log(K)
    assert nn.functional.relu(result.loss.detach()) < math.log(K)


def test_unfused_attention_equals_fused_attention() -> None:
    torch.manual_seed(0)
    backbone = create_model("vit_tiny", depth=2).eval()
    images = torch.randn(2, 3, 256, 128)
    fused = backbone(images)
    blocks = [layer for layer in backbone.modules() if getattr(layer, "fused_attn", False)]
    assert blocks
    unfuse_attention(backbone)
    assert not any(layer.fused_attn for layer in blocks)
    torch.testing.assert_close(backbone(images), fused, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("entropy", "loss", "uniform"),
    [(0.999, 1.0, True), (0.96, 0.98, False), (0.3, 1.0, False), (0.999, 0.9, False)],
)
def test_end_at_the_uniform_distribution_is_named(entropy: float, loss: float, uniform: bool) -> None:
    rows = [
        {"teacher_entropy": 0.0, "loss": 0.0},
        {"teacher_entropy": entropy * math.log(K), "loss": loss * math.log(K)},
    ]
    warnings = _cion().warnings(rows)
    assert len(warnings) == uniform
    assert all("--method.teacher-temperature (0.04)" in text for text in warnings)


def test_training_without_steps_has_no_warnings() -> None:
    assert _cion().warnings([]) == []
