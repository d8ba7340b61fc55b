import subprocess
import sys

import pytest
import timm
import torch

import reappear
from reappear.core import InputError, SettingsError
from reappear.models import create_model, list_models
from reappear.models.small import OWN


def test_importing_models_does_not_import_torch() -> None:
    code = "import sys, reappear.models, reappear.models as m; dir(m); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_list_has_the_zoo_and_optionally_everything() -> None:
    assert len(list_models()) == 32
    everything = list_models(everything=True)
    assert everything[:34] == [*list_models(), *OWN]
    assert set(everything) == set(timm.list_models()) | set(list_models())
    assert len(everything) == len(set(everything))
    assert list_models("resnet50*") == ["resnet50", "resnet50_ibn"]
    assert list_models("cnn?", everything=True) == ["cnn6"]
    assert list_models("no-such-*") == []
    assert reappear.list_models is list_models


def test_zoo_names_take_precedence_over_timm() -> None:
    assert create_model("resnet18").layer4[0].conv1.stride == (1, 1)
    assert create_model("timm:resnet18").layer4[0].conv1.stride == (2, 2)


@pytest.mark.parametrize("name", [*OWN, "mobilenetv3_small_050", "edgenext_xx_small"])
def test_every_backbone_has_its_declared_width(name: str) -> None:
    model = create_model(name).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 64, 32)).shape == (2, model.num_features)


@pytest.mark.slow
def test_listed_models_can_be_built() -> None:
    names = list_models(everything=True)
    for name in names[::60]:
        with torch.device("meta"):
            assert create_model(name).num_features > 0


def test_stripes_are_pooled_separately() -> None:
    torch.manual_seed(0)
    model = create_model("stripes4", width=4, stripes=2).eval()
    image = torch.rand(1, 3, 64, 32)
    other = image.clone()
    other[:, :, :16] = 0  # well above the middle, beyond what the convolutions see of the lower half
    with torch.no_grad():
        a, b = model(image).view(16, 2), model(other).view(16, 2)
    assert not torch.allclose(a[:, 0], b[:, 0])
    torch.testing.assert_close(a[:, 1], b[:, 1])


def test_arguments_reach_the_architecture() -> None:
    assert create_model("cnn6", width=8).num_features == 32
    assert create_model("stripes4", width=8, stripes=3).num_features == 96


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("resnet5O", {}, InputError, "no model is called 'resnet5O'; did you mean resnet50"),
        ("timm:resnet50_ibn", {}, InputError, "no model is called 'timm:resnet50_ibn'"),
        ("resnet50_ibn_a", {}, InputError, "did you mean resnet50_ibn?"),
        ("hf-hub:someone/model", {}, InputError, "no model is called 'hf-hub:someone/model'"),
        ("cnn6", {"pretrained": True}, InputError, "nothing is downloaded"),
        ("cnn6", {"deep": 3}, SettingsError, "cnn6 cannot be built with"),
        ("vit_tiny_patch16_224", {"embed_dim": 7, "num_heads": 2}, SettingsError, "cannot be built with"),
    ],
)
def test_models_that_cannot_be_built_raise_errors(
    name: str, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create_model(name, **arguments)
