import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from reappear.core import InputError, SettingsError, TrainingError
from reappear.models import create_model, load_model, save_model
from reappear.models.extractors import ModelSettings

CONFIG = {
    "architecture": "cnn6",
    "arguments": {"width": 4},
    "height": 32,
    "width": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "exported": "student",
}


def test_model_round_trip(tmp_path: Path) -> None:
    model = create_model("cnn6", width=4).to(memory_format=torch.channels_last)
    model(torch.randn(4, 3, 32, 16))
    save_model(tmp_path / "m", model, CONFIG, card="# A card\n")
    back, config = load_model(tmp_path / "m")
    own = {"interpolation": "area-cubic", "scale": 255.0, "channels": "rgb", "neck": "none", "feature": "after"}
    assert config == {**CONFIG, **own, "features": 16}
    assert (tmp_path / "m" / "README.md").read_text() == "# A card\n"
    assert not back.training
    images = torch.randn(2, 3, 32, 16)
    with torch.no_grad():
        torch.testing.assert_close(back(images), model.eval()(images))


def test_model_files_follow_the_umask(tmp_path: Path) -> None:
    save_model(tmp_path / "m", create_model("cnn6", width=4), CONFIG, card="")
    (tmp_path / "m" / "plain").touch()
    assert len({path.stat().st_mode for path in (tmp_path / "m").iterdir()}) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path: Path, value: float) -> None:
    model = create_model("cnn6", width=4)
    save_model(tmp_path / "m", model, CONFIG, card="")
    name = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()][-1]
    model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(TrainingError, match=re.escape(name)):
        save_model(tmp_path / "bad", model, CONFIG, card="")
    assert not (tmp_path / "bad" / "model.safetensors").exists()
    safetensors.torch.save_file(model.state_dict(), tmp_path / "m" / "model.safetensors")
    torch.save(model.state_dict(), tmp_path / "m.pth")
    for load in (
        lambda: load_model(tmp_path / "m"),
        lambda: create_model("cnn6", width=4, pretrained=tmp_path / "m.pth"),
        lambda: ModelSettings(name=str(tmp_path / "m")).build(),
    ):
        with pytest.raises(InputError, match=f"NaN or infinite: 1 of .* values? of {re.escape(name)}") as caught:
            load()
        assert "\n" not in str(caught.value)


def test_incomplete_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs mean, std"):
        save_model(
            tmp_path, create_model("cnn6"), {k: v for k, v in CONFIG.items() if k not in ("mean", "std")}, card=""
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "holds no model"),
        ("not json", "not JSON"),
        (json.dumps({"architecture": "cnn6"}), "lacks arguments, height, width, mean, std"),
        (json.dumps(CONFIG), "model.safetensors does not exist"),
        (json.dumps({**CONFIG, "architecture": "cnn66"}), "no model is called 'cnn66'"),
    ],
)
def test_folders_without_a_model_are_refused(tmp_path: Path, config: str | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "/etc/passwd"},
        {"pretrained": True},
        {"pretrained_cfg": {"url": "http://example.com/x"}},
        {"pretrained_cfg_overlay": {"file": "/etc/passwd"}},
        {"cache_dir": "/tmp/x"},
        {"features_only": True},
        {"model_name": "resnet50"},
        {"name": "resnet50"},
        {"width": 10**9},
        {"width": 16_000},  # 2 GB, for a file of some kB
        {"width": -1},
        {"width": float("nan")},
        {"width": {"a": 1}},
        {"width": [[4]]},
        {"width": list(range(1000))},
        {"unknown": 1},
        [],
        "width",
    ],
)
def test_arguments_of_a_configuration_open_nothing_and_allocate_nothing(tmp_path: Path, arguments: object) -> None:
    save_model(tmp_path, create_model("cnn6", width=4), CONFIG, card="")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "arguments": arguments}))
    with pytest.raises(InputError, match=r"config\.json") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"architecture": ["cnn6"]},
        {"height": "32"},
        {"height": 10**9},
        {"std": [0, 1, 1]},
        {"mean": [1]},
        {"mean": None},
    ],
)
def test_other_values_of_a_configuration_are_checked(tmp_path: Path, changed: dict[str, object]) -> None:
    save_model(tmp_path, create_model("cnn6", width=4), CONFIG, card="")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changed}))
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)


def test_no_argument_of_timm_that_reads_or_downloads_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import inspect

    import timm

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("reached"))
    for name in inspect.signature(timm.models.build_model_with_cfg).parameters:
        if name not in ("kwargs", "pretrained"):
            with pytest.raises((SettingsError, TypeError)):
                create_model("timm:resnet18", **{name: "x"})
