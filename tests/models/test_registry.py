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


def test_list_holds_our_own_first_and_timms_after() -> None:
    names = list_models()
    assert names[: len(OWN)] == OWN
    assert set(names) == set(timm.list_models())
    assert list_models("cnn?") == ["cnn6"]
    assert list_models("no-such-*") == []
    assert reappear.list_models is list_models


@pytest.mark.parametrize("name", [*OWN, "resnet18", "ghostnet_050", "mobilenetv3_small_050", "edgenext_xx_small"])
def test_every_backbone_gives_as_many_features_as_it_says(name: str) -> None:
    model = create_model(name).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 64, 32)).shape == (2, model.num_features)


@pytest.mark.slow
def test_what_is_listed_can_be_built() -> None:
    names = list_models()
    for name in names[::60]:
        with torch.device("meta"):
            assert create_model(name).num_features > 0


def test_stripes_keep_above_and_below_apart() -> None:
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
        ("hf-hub:someone/model", {}, InputError, "no model is called 'hf-hub:someone/model'"),
        ("cnn6", {"pretrained": True}, InputError, "nothing is downloaded"),
        ("cnn6", {"deep": 3}, SettingsError, "cnn6 cannot be built with"),
        ("vit_tiny_patch16_224", {"embed_dim": 7, "num_heads": 2}, SettingsError, "cannot be built with"),
    ],
)
def test_what_cannot_be_built_is_told(
    name: str, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create_model(name, **arguments)
