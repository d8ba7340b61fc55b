from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from reappear.core import SettingsError
from reappear.models import Embedder, Preprocessing, create_model
from reappear.models.mgn import MGN
from reappear.models.pooling import GeM

SMALL = {"layers": [1, 1, 2, 1], "channels": [4, 4, 8, 8]}


def test_gem_is_the_generalised_mean() -> None:
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64) + 0.1
    pool = GeM(2.5).double()
    for n in range(2):
        for channel in range(3):
            values = [float(x) ** 2.5 for x in maps[n, channel].flatten()]
            assert pool(maps)[n, channel].item() == pytest.approx((sum(values) / 20) ** (1 / 2.5))
    pool.exponent.data.fill_(1.0)
    torch.testing.assert_close(pool(maps), maps.mean((2, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        assert GeM()(maps.to(torch.bfloat16)).dtype == torch.float32


def test_parts_are_three_wholes_two_halves_and_three_thirds() -> None:
    torch.manual_seed(0)
    resnet = create_model("resnet18_ibn", **SMALL).eval()
    model = MGN(resnet, width=5).eval()
    images = torch.randn(2, 3, 96, 32)
    with torch.no_grad():
        for number, branch in enumerate(model.branches):  # they learn apart
            for parameter in branch.parameters():
                parameter.add_(0.01 * number)
        vectors = model(images).view(2, 8, 5)
        x = resnet.maxpool(resnet.act1(resnet.bn1(resnet.conv1(images))))
        x = resnet.layer3[0](resnet.layer2(resnet.layer1(x)))
        maps = [branch(x) for branch in model.branches]
        assert maps[0].shape == (2, 8, 6, 2)
        parts = [*maps, maps[1][:, :, :3], maps[1][:, :, 3:], maps[2][:, :, :2], maps[2][:, :, 2:4], maps[2][:, :, 4:]]
        for part, (head, seen) in enumerate(zip(model.heads, parts, strict=True)):
            pooled = seen.clamp_min(1e-6).pow(3).mean((2, 3)).pow(1 / 3)
            expected = F.linear(pooled, head[1].weight) / (1 + 1e-5) ** 0.5
            torch.testing.assert_close(vectors[:, part], expected)


def test_branches_begin_as_the_resnet_and_are_saved_with_the_model(tmp_path: Path) -> None:
    resnet = create_model("resnet18_ibn", **SMALL)
    model = MGN(resnet, width=5).eval()
    for branch in model.branches:
        for name, value in resnet.layer4.state_dict().items():
            assert torch.equal(branch[1].state_dict()[name.removeprefix("0.")], value)
    config = {"architecture": "mgn", "arguments": {"resnet": "resnet18_ibn", "part_width": 5, **SMALL}}
    embedder = Embedder(model, Preprocessing(height=96, width=32), config=config)
    embedder.save(tmp_path / "m")
    images = torch.randn(2, 3, 96, 32)
    with torch.no_grad():
        assert torch.equal(Embedder.load(tmp_path / "m").backbone(images), model(images))


def test_other_networks_and_low_maps_are_refused() -> None:
    with pytest.raises(SettingsError, match="MGN needs a ResNet"):
        MGN(create_model("cnn6"))
    with pytest.raises(ValueError, match="2 rows"):
        MGN(create_model("resnet18", **SMALL)).eval()(torch.zeros(1, 3, 32, 32))
