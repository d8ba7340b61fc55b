"""What all backbones share, and what makes those of ReIDZoo what they are."""

import pytest
import timm
import torch
from torch import nn

from reappear.core import InputError, SettingsError
from reappear.models import create_model, describe_model, feature_map, list_models
from reappear.models.ibn import IBN
from reappear.models.small import OWN
from reappear.models.zoo import ZOO

QUICK = ("stripes4", "cnn6", "resnet18", "resnet18_ibn", "ghostnet_0_5", "repvit_m0_9", "fastvit_s12", "vit_tiny")
EACH = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in [*list_models(), *sorted(OWN)]
]
SIZES = ((256, 128), (128, 64), (384, 128))


@pytest.fixture(scope="module", params=EACH)
def backbone(request: pytest.FixtureRequest) -> nn.Module:
    """Evaluating, with no weight at zero: some begin so, and would hide what does not reach them."""
    torch.manual_seed(0)
    model = create_model(request.param).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.squeeze().ndim <= 1:
                parameter.add_(torch.empty_like(parameter).uniform_(0.05, 0.2))
    return model


def test_every_input_size_gives_a_vector_and_a_map(backbone: nn.Module) -> None:
    for height, width in SIZES:
        images = torch.randn(1, 3, height, width)
        with torch.no_grad():
            features, maps = backbone(images), feature_map(backbone, images)
        assert features.shape == (1, backbone.num_features)
        assert features.isfinite().all()
        assert maps.shape[2] * width == maps.shape[3] * height  # as tall and wide as the image
        assert maps.shape[1] == backbone.num_features or type(backbone).__name__ in ("GhostNet", "SmallCNN")


def test_features_do_not_depend_on_the_batch(backbone: nn.Module) -> None:
    images = torch.randn(3, 3, 128, 64)
    with torch.no_grad():
        together, again = backbone(images), backbone(images)
        alone = torch.cat([backbone(image[None]) for image in images])
    assert torch.equal(together, again)
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4 * together.abs().max().item())


def test_training_drops_no_features(backbone: nn.Module) -> None:
    """As in the public code: no dropout anywhere. Stochastic depth (Swin) is another matter."""
    rates = {name: layer.p for name, layer in backbone.named_modules() if isinstance(layer, nn.Dropout) and layer.p}
    assert rates == {}
    assert not getattr(backbone, "drop_rate", 0.0)


def test_every_parameter_has_a_gradient(backbone: nn.Module) -> None:
    torch.manual_seed(0)
    backbone.zero_grad()
    features = backbone(torch.randn(2, 3, 128, 64))
    (features * torch.randn_like(features)).sum().backward()
    lacking = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert lacking == []
    backbone.zero_grad()


def test_pooled_map_is_the_feature(backbone: nn.Module) -> None:
    images = torch.randn(2, 3, 128, 64)
    with torch.no_grad():
        features, maps = backbone(images), feature_map(backbone, images)
        kind = type(backbone).__name__
        mean = maps.mean((2, 3))
        if kind in ("ResNet", "RepVit", "FastVit", "SwinTransformer"):
            pooled = mean
        elif kind in ("ConvNeXt", "EdgeNeXt"):
            pooled = backbone.head.norm(mean[:, :, None, None]).flatten(1)
        elif kind == "GhostNet":
            pooled = backbone.conv_head(mean[:, :, None, None]).relu().flatten(1)
        elif kind in ("VisionTransformer", "VOLO"):
            pooled = backbone.forward_features(images)[:, 0]  # beside the map
        else:
            pooled = maps.unflatten(2, (backbone.stripes, -1)).mean((3, 4)).flatten(1)
    torch.testing.assert_close(features, pooled, rtol=1e-4, atol=1e-5 * features.abs().max().item())


@pytest.mark.parametrize("name", list_models())
def test_sizes_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == ZOO[name].parameters
    assert model.num_features == ZOO[name].features


# GFLOPs that Tab. 3 prints for 256×128; multiply-adds, with norms and activations among them.
@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet50_ibn", 4.09), ("fastvit_s12", 0.93), ("swin_tiny", 3.13), ("vit_small", 3.79)],
)
def test_costs_are_the_published_ones(name: str, published: float) -> None:
    found = describe_model(name)
    assert found.gmacs == pytest.approx(published, rel=0.05)
    assert found.gmacs < published
    assert describe_model(name, height=384).gmacs > 1.4 * found.gmacs


def test_ibn_is_instance_norm_beside_batch_norm() -> None:
    torch.manual_seed(0)
    norm = IBN(6)
    maps = 3 + 2 * torch.randn(4, 6, 5, 7)
    out = norm(maps)
    own = maps[:, :3]
    expected = (own - own.mean((2, 3), keepdim=True)) / (own.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(out[:, :3], expected)
    torch.testing.assert_close(out[:, 3:], nn.BatchNorm2d(3)(maps[:, 3:]))


def test_ibn_is_in_three_stages() -> None:
    model = create_model("resnet18_ibn")
    where = {name.split(".")[0] for name, module in model.named_modules() if isinstance(module, IBN)}
    assert where == {"layer1", "layer2", "layer3"}


def test_volo_equals_timm_at_its_native_size() -> None:
    torch.manual_seed(0)
    ours = create_model("volo_d1").eval()
    timms = timm.create_model("volo_d1_224", img_size=(256, 128), num_classes=0).eval()
    timms.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 256, 128)
    with torch.no_grad():
        assert torch.equal(ours(images), timms(images))


def test_checkpointing_changes_no_gradient() -> None:
    torch.manual_seed(0)
    model = create_model("volo_d1", layers=(1, 1, 1, 1), embed_dims=(24, 48, 48, 48), num_heads=(2, 4, 4, 4))
    images = torch.randn(2, 3, 64, 32)
    grads = []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        model.zero_grad()
        model(images).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for without, with_it in zip(*grads, strict=True):
        torch.testing.assert_close(without, with_it)


def test_vit_class_token_has_the_deviation_of_other_weights() -> None:
    torch.manual_seed(0)
    assert 0.015 < create_model("vit_small").cls_token.std().item() < 0.025


def test_repvit_uses_mobilenet_squeeze_excite() -> None:
    with torch.device("meta"):
        model = create_model("repvit_m0_9")
    squeezes = [module for module in model.modules() if hasattr(module, "gate")]
    assert {(s.fc1.in_channels, s.fc1.out_channels) for s in squeezes} == {(48, 12), (96, 24), (192, 48), (384, 96)}
    assert {type(s.gate).__name__ for s in squeezes} <= {"HardSigmoid", "Hardsigmoid"}


def test_description_needs_no_weights() -> None:
    assert describe_model("resnet50", height=384).feature_map == (2048, 24, 8)
    other = describe_model("timm:resnet50")
    assert (other.feature_map, other.made_from, other.checkpoint) == ((2048, 8, 4), None, None)


def test_invalid_sizes_and_networks_are_refused() -> None:
    with pytest.raises(SettingsError, match="vit_base_patch32_224 does not take images of 256x128"):
        describe_model("vit_base_patch32_224")
    with pytest.raises(InputError, match="no model is called"):
        describe_model("resnet51")

    class Vectors(nn.Module):
        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    with pytest.raises(InputError, match="Vectors has no map of features"):
        feature_map(Vectors(), torch.zeros(1, 3, 8, 8))


def test_modes_can_be_chained() -> None:
    model = create_model("swin_tiny")
    assert model.train() is model.eval() is model
