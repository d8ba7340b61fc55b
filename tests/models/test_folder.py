import json
from pathlib import Path

import pytest
import torch

from reappear.core import InputError
from reappear.models import create_model, load_model, save_model

CONFIG = {
    "architecture": "cnn6",
    "arguments": {"width": 4},
    "height": 32,
    "width": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "exported": "student",
}


def test_a_model_goes_to_disk_and_comes_back_the_same(tmp_path: Path) -> None:
    model = create_model("cnn6", width=4).to(memory_format=torch.channels_last)
    model(torch.randn(4, 3, 32, 16))
    save_model(tmp_path / "m", model, CONFIG, card="# A card\n")
    back, config = load_model(tmp_path / "m")
    assert config == {**CONFIG, "features": 16}
    assert (tmp_path / "m" / "README.md").read_text() == "# A card\n"
    assert not back.training
    images = torch.randn(2, 3, 32, 16)
    with torch.no_grad():
        torch.testing.assert_close(back(images), model.eval()(images))


def test_a_configuration_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs mean, std"):
        save_model(
            tmp_path, create_model("cnn6"), {k: v for k, v in CONFIG.items() if k not in ("mean", "std")}, card=""
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "holds no model"),
        ("not json", "is damaged"),
        (json.dumps({"architecture": "cnn6"}), "lacks arguments, height, width, mean, std"),
        (json.dumps(CONFIG), "model.safetensors does not exist"),
        (json.dumps({**CONFIG, "architecture": "cnn66"}), "no model is called 'cnn66'"),
    ],
)
def test_folders_that_hold_no_model(tmp_path: Path, config: str | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)
