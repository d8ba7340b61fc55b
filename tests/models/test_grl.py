"""GRL against its formulas, written out frame by frame, and against the size of the public code."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from reappear.core import SettingsError
from reappear.models import Embedder, Preprocessing, create_model
from reappear.models.clips import clip_positions, dense_clips
from reappear.models.grl import (
    AttentionPooling,
    ClipNetwork,
    CorrelationEstimation,
    PairVerifier,
    ReciprocalLearning,
)


def _drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _network(name: str = "cnn6", pooling: str = "grl", **changes: object) -> ClipNetwork:
    torch.manual_seed(0)
    return ClipNetwork(create_model(name, width=4), pooling=pooling, **changes)


def _parameters(*modules: nn.Module) -> float:
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


def test_resnet50_has_the_size_of_the_public_code() -> None:
    """51.59 M, and 3.16 M of pooling and verification, of which the public code never uses a projection of 1.05 M."""
    with torch.device("meta"), torch.no_grad():
        model = create_model("grl").eval()
        clips = torch.zeros(1, 8, 3, 256, 128)
        maps, features = model._maps(clips), model.clips(clips)
        of_maps, of_correlation, of_direction, of_all = (
            _gmacs(*of)
            for of in ((model._maps, clips), (model.correlation, maps), (model.forwards, maps, maps), (model, clips))
        )
    assert maps.shape == (1, 8, 2048, 16, 8)
    assert (features.frames.shape, features.clip.shape) == ((1, 8, 2048), (1, 2048))
    assert features.memory.shape == (1, 2048)
    assert model.num_features == 6144
    assert _parameters(model.network) == pytest.approx(23.51, abs=0.005)
    assert _parameters(model.correlation.guide) == pytest.approx(2.10, abs=0.005)
    assert _parameters(model.correlation.score) == pytest.approx(3.41, abs=0.005)
    assert _parameters(model.forwards, model.backwards) == pytest.approx(22.56, abs=0.005)
    assert _parameters(model.forwards.absorb) == pytest.approx(2.37, abs=0.005)
    assert _parameters(model) - _parameters(model.attention) == pytest.approx(51.59, abs=0.005)
    unused = 2048 * 512 + 512 + 2 * 512
    assert _parameters(model.attention, PairVerifier(2048)) + unused / 1e6 == pytest.approx(3.16, abs=0.005)
    assert of_maps == pytest.approx(32.4, abs=0.1)
    assert of_correlation == pytest.approx(3.5, abs=0.05)
    assert 2 * of_direction == pytest.approx(22.0, abs=0.05)
    assert of_all == pytest.approx(57.9, abs=0.1)


def _gmacs(call: Callable[..., object], *inputs: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counted:
        call(*inputs)
    return counted.get_total_flops() / 2e9


def test_correlation_is_its_formula_and_parts_the_map() -> None:
    torch.manual_seed(1)
    estimation = CorrelationEstimation(8).double()
    maps = _drawn(2, 3, 8, 4, 2).double()
    made = estimation(maps)
    linear, norm = estimation.guide[0], estimation.guide[1]
    pooled = torch.stack([maps[i].mean((0, 2, 3)) @ linear.weight.T + linear.bias for i in range(2)])
    guide = F.relu(F.batch_norm(pooled, None, None, norm.weight, norm.bias, training=True))
    first, second, third = (estimation.score[i].weight[:, :, 0, 0] for i in (0, 2, 5))
    places = torch.stack([torch.cat([maps[i, t, :, y, x], guide[i]]) for i, t, y, x in np.ndindex(2, 3, 4, 2)])

    def normalised(rows: torch.Tensor) -> torch.Tensor:
        return (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()

    expected = torch.sigmoid(normalised(F.relu(normalised(normalised(places @ first.T) @ second.T)) @ third.T))
    torch.testing.assert_close(made.flatten(), expected.flatten())
    assert ((made > 0) & (made < 1)).all()


def test_high_and_low_features_add_up_to_the_map() -> None:
    """Seen by what the two directions are given."""
    model = _network("cnn6").eval()
    given: list[torch.Tensor] = []
    model.forwards.register_forward_pre_hook(lambda _, inputs: given.extend(inputs))
    clips = _drawn(2, 3, 3, 32, 16)
    with torch.no_grad():
        model(clips)
        maps = model._maps(clips)
        correlation = model.correlation(maps)
    high, low = given
    assert torch.equal(high, correlation * maps)
    torch.testing.assert_close(high + low, maps, rtol=1e-7, atol=0)


def test_reciprocal_learning_is_the_loop_over_frames() -> None:
    torch.manual_seed(0)
    learning = ReciprocalLearning(16).double().eval()
    for module in learning.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    high, low = (_drawn(1, 3, 16, 2, 2, seed=seed).double().requires_grad_() for seed in (1, 2))
    p, q = learning.of_memory, learning.of_frame
    v1, v2 = learning.weigh[0].weight, learning.weigh[2].weight
    memory = sum(low[0, t] for t in range(3)) / 3
    enhanced = []
    for t in range(3):
        difference = torch.zeros(16, dtype=torch.float64)
        for y in range(2):
            for x in range(2):
                of_memory = F.relu(p.weight[:, :, 0, 0] @ memory[:, y, x] + p.bias)
                of_frame = F.relu(q.weight[:, :, 0, 0] @ high[0, t, :, y, x] + q.bias)
                difference = difference + (of_memory - of_frame) ** 2 / 4
        attention = torch.sigmoid(v2 @ F.relu(v1 @ difference))
        enhanced.append((high[0, t] * attention[:, None, None] + high[0, t]).mean((1, 2)))
        total = memory + low[0, t]
        memory = F.relu(total + learning.absorb(total[None])[0])
    frames, last = learning(high, low)
    expected = torch.stack(enhanced)
    torch.testing.assert_close(frames[0], expected)
    torch.testing.assert_close(last[0], memory.mean((1, 2)))
    mine = torch.autograd.grad(frames.square().sum() + last.square().sum(), (high, low))
    theirs = torch.autograd.grad(expected.square().sum() + memory.mean((1, 2)).square().sum(), (high, low))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_attention_pooling_is_the_loop_over_frames() -> None:
    torch.manual_seed(0)
    pooling = AttentionPooling(8).double().eval()
    frames = F.normalize(_drawn(1, 4, 8).double(), dim=-1)
    query, key = (F.normalize(layer(frames[0]), dim=-1) for layer in (pooling.query, pooling.key))
    total = torch.zeros(8, dtype=torch.float64)
    for i in range(4):
        weights = [torch.exp(query[i] @ key[j]) for j in range(4)]
        for j in range(4):
            total = total + weights[j] / sum(weights) * frames[0, j]
        assert max(weights) / min(weights) < np.e**2 + 1e-6
    torch.testing.assert_close(pooling(frames)[0], total / total.norm())


@pytest.mark.parametrize("pooling", ["grl", "attention", "average"])
@pytest.mark.parametrize("name", ["cnn6", "stripes4"])
def test_any_length_of_clip_and_size_of_image(name: str, pooling: str) -> None:
    model = _network(name, pooling).eval()
    with torch.no_grad():
        for frames, height, width in ((1, 32, 16), (13, 48, 32)):
            clips = _drawn(2, frames, 3, height, width)
            made = model(clips)
            assert made.shape == (2, model.num_features)
            parts = made.unflatten(1, (-1, model.frame_norm.num_features))
            torch.testing.assert_close(parts.norm(dim=-1), torch.ones(parts.shape[:2]))
        torch.testing.assert_close(model(clips[:, 4]), model(clips[:, 4:5]))  # an image is a clip of one frame
        if pooling == "average":
            torch.testing.assert_close(made, F.normalize(model.clips(clips).frames.mean(1), dim=-1))
            torch.testing.assert_close(made, model(clips.flip(1)))


@pytest.mark.parametrize("pooling", ["grl", "attention", "average"])
def test_gradients_reach_every_parameter(pooling: str) -> None:
    model, verifier = _network(pooling=pooling), PairVerifier(16)
    frames, clip, memory = model.clips(_drawn(4, 3, 3, 32, 16))
    weights = _drawn(16, seed=3)
    loss = (frames @ weights).square().sum() + verifier(clip[:2], clip[2:]).square().sum()
    if memory is not None:
        loss = loss + (memory @ weights).square().sum()
    loss.backward()
    for name, parameter in [*model.named_parameters(), *verifier.named_parameters()]:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    dead = [name for name, p in model.named_parameters() if not p.grad.any()]
    # What batch norm takes out again: shifts of what it normalises.
    assert all(name.endswith(("bias", "beta")) for name in dead), dead


def test_layers_after_the_map_are_not_trained() -> None:
    """Several processes would wait for their gradients."""
    network = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), patch_size=2)
    model = ClipNetwork(network)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"network.head.norm.weight", "network.head.norm.bias"}
    model.clips(_drawn(2, 2, 3, 64, 32)).clip.sum().backward()
    assert all(p.grad is not None for p in model.network.parameters() if p.requires_grad)


def test_official_leaves_the_mean_of_frames_as_it_is() -> None:
    fixed, official = _network().eval(), _network(compat="official").eval()
    clips = _drawn(2, 3, 3, 32, 16)
    with torch.no_grad():
        one, other = (model(clips).view(2, 3, 16) for model in (fixed, official))
        frames = official.clips(clips).frames
    torch.testing.assert_close(one[:, :2], other[:, :2])
    torch.testing.assert_close(other[:, 2], frames.mean(1))
    torch.testing.assert_close(one[:, 2], F.normalize(frames.mean(1), dim=-1))
    assert (other[:, 2].norm(dim=-1) < 1).all()


def test_the_model_is_saved_with_its_pooling(tmp_path: Path) -> None:
    model = _network(frames=4)
    config = {"architecture": "grl", "arguments": {"network": "cnn6", "width": 4, "frames": 4}}
    Embedder(model.eval(), Preprocessing(height=32, width=16), config=config).save(tmp_path / "m")
    again = Embedder.load(tmp_path / "m")
    images = [np.random.default_rng(i).integers(0, 256, (40, 20, 3), dtype=np.uint8) for i in range(5)]
    assert again.clip_frames == 4
    assert again(images).shape == (5, 48)


def test_parts_are_even_and_the_official_ones_are_not() -> None:
    """The public code gives the last frame of a short tracklet up to five times; parts of equal length do not."""
    start = np.zeros(8)
    official = {9: [0, 2, 4, 6, 8, 8, 8, 8], 17: [0, 3, 6, 9, 12, 15, 16, 16], 25: [0, 4, 8, 12, 16, 20, 24, 24]}
    for length, expected in official.items():
        assert clip_positions(np.array(length), start, "official").tolist() == expected
    for length in range(1, 70):
        positions = clip_positions(np.array(length), start)
        assert (np.diff(positions) >= 0).all()
        counts = np.bincount(positions, minlength=length)
        if length >= 8:
            assert counts.max() == 1
            assert np.ptp(np.diff(np.r_[positions, length])) <= 1  # parts differ by a frame at most
        else:
            assert counts.min() >= 1
            assert np.ptp(counts) <= 1
        if length % 8 == 0:
            assert positions.tolist() == clip_positions(np.array(length), start, "official").tolist()


def test_dense_clips_have_every_frame() -> None:
    for length in (1, 4, 5, 8, 13):
        clips = dense_clips(length, 4)
        assert clips.shape == (-(-length // 4), 4)
        assert set(clips.ravel().tolist()) == set(range(length))


@pytest.mark.parametrize("arguments", [{"pooling": "max"}, {"frames": 0}, {"compat": "best"}])
def test_bad_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        create_model("grl", network="cnn6", **arguments)


@pytest.mark.parametrize("dense", [False, True])
def test_tracklets_have_the_vectors_of_their_clips(dense: bool) -> None:
    embedder = Embedder(_network(frames=3).eval(), Preprocessing(height=32, width=16))
    images = [np.random.default_rng(i).integers(0, 256, (40, 20, 3), dtype=np.uint8) for i in range(9)]
    tracklets = [images[:1], images[1:5], images[2:9]]
    made = embedder.tracklets(tracklets, dense=dense)
    for vector, mine in zip(made, tracklets, strict=True):
        clips = dense_clips(len(mine), 3) if dense else clip_positions(np.array([len(mine)]), np.zeros(3))
        pixels = np.stack([embedder.preprocessing([mine[i] for i in clip]) for clip in clips])
        with torch.no_grad():
            expected = embedder.backbone(torch.from_numpy(pixels)).mean(0)
        torch.testing.assert_close(torch.from_numpy(vector), expected, rtol=1e-4, atol=1e-6)
    assert embedder.tracklets([]).shape == (0, 48)
