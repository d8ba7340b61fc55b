"""An embedder gives the same vectors from Python, from disk, as an extractor, and whatever the size of a batch."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from reappear.core import InputError
from reappear.models import BNNeck, Embedder, Preprocessing, create_model, load_checkpoint, load_model
from reappear.models.extractors import ModelSettings, extractor_settings_for

CONFIG = {"architecture": "cnn6", "arguments": {"width": 4}}
SMALL = Preprocessing(height=32, width=16)


def images(count: int = 7) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*random.integers(8, 80, 2), 3), dtype=np.uint8) for _ in range(count)]


def made(neck: str, feature: str = "after", preprocessing: Preprocessing = SMALL) -> Embedder:
    torch.manual_seed(0)
    embedder = Embedder(
        create_model("cnn6", width=4),
        preprocessing,
        neck=BNNeck(16) if neck == "bnneck" else None,
        feature=feature,
        config=CONFIG,
    )
    with torch.no_grad():
        for _ in range(3):  # running statistics that are not those of a new layer
            embedder.forward(torch.randn(8, 3, 32, 16))
    return embedder


@pytest.mark.parametrize("feature", ["before", "after"])
@pytest.mark.parametrize("neck", ["none", "bnneck"])
def test_saved_embedder_gives_the_same_vectors(tmp_path: Path, neck: str, feature: str) -> None:
    embedder = made(neck, feature)
    embedder.save(tmp_path / "m")
    back = Embedder.load(tmp_path / "m")
    np.testing.assert_array_equal(back(images()), embedder(images()))
    assert (back.name, back.width, back.preprocessing) == ("m", 16, embedder.preprocessing)
    extractor = extractor_settings_for(str(tmp_path / "m")).build()
    np.testing.assert_allclose(extractor(images()), embedder(images()), atol=1e-6)
    back.save(tmp_path / "again")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "m" / name).read_bytes()


@pytest.mark.parametrize("neck", ["none", "bnneck"])
def test_vectors_do_not_depend_on_the_batch_size(neck: str) -> None:
    embedder, some = made(neck), images(300)  # more than one forward pass
    whole = embedder(some)
    assert whole.dtype == np.float32
    for size in (1, 7, 256):
        parts = [embedder(some[begin : begin + size]) for begin in range(0, len(some), size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    assert embedder([]).shape == (0, 16)


def test_embedding_keeps_the_mode_of_a_network_in_training() -> None:
    embedder = made("bnneck")
    before = {name: value.clone() for name, value in embedder.backbone.state_dict().items()}
    embedder(images())
    assert embedder.backbone.training
    assert embedder.neck.training
    assert all(torch.equal(value, before[name]) for name, value in embedder.backbone.state_dict().items())
    embedder.backbone.eval()
    embedder(images())
    assert not embedder.backbone.training


def test_feature_selects_the_vector_before_or_after_the_neck() -> None:
    before, after = made("bnneck", "before"), made("bnneck", "after")
    expected = after.neck.eval()(torch.from_numpy(before(images()))).detach().numpy()
    np.testing.assert_allclose(after(images()), expected, atol=1e-6)
    assert not np.allclose(before(images()), after(images()), atol=1e-2)
    assert not after.neck.bias.requires_grad


@pytest.mark.parametrize("neck", ["none", "bnneck"])
def test_backbone_of_a_model_folder_is_loaded_with_or_without_a_neck(tmp_path: Path, neck: str) -> None:
    embedder = made(neck)
    embedder.save(tmp_path / "m")
    backbone, config = load_model(tmp_path / "m")
    assert config["neck"] == neck
    other = create_model("cnn6", width=4)
    assert load_checkpoint(other, tmp_path / "m").missing == ()
    for name, value in embedder.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value)
        assert torch.equal(other.state_dict()[name], value)


def test_tensors_of_a_model_without_a_neck_have_the_backbones_names(tmp_path: Path) -> None:
    embedder = made("none")
    embedder.save(tmp_path / "m")
    assert safetensors.torch.load_file(tmp_path / "m" / "model.safetensors").keys() == (
        embedder.backbone.state_dict().keys()
    )


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Preprocessing)])
def test_every_field_of_preprocessing_is_in_the_configuration(tmp_path: Path, field: str) -> None:
    changes = {"height": 64, "width": 32, "mean": (0.1,) * 3, "std": (0.2,) * 3, "scale": 1.0, "channels": "bgr"}
    value = changes.get(field, getattr(SMALL, field))
    made("none", preprocessing=dataclasses.replace(SMALL, **{field: value})).save(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())[field]
    assert (tuple(written) if isinstance(written, list) else written) == value
    assert getattr(Embedder.load(tmp_path).preprocessing, field) == value
    assert getattr(ModelSettings(name=str(tmp_path)).build().preprocessing, field) == value


def test_configuration_without_the_newer_keys_has_defaults(tmp_path: Path) -> None:
    embedder = made("none")
    embedder.save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    old = {key: config[key] for key in ("architecture", "arguments", "height", "width", "mean", "std", "features")}
    path.write_text(json.dumps(old))
    np.testing.assert_array_equal(Embedder.load(tmp_path)(images()), embedder(images()))


@pytest.mark.parametrize(
    "changed",
    [{"neck": "bottle"}, {"feature": None}, {"channels": "gray"}, {"interpolation": ["area"]}, {"scale": 0}],
    ids=lambda changed: next(iter(changed)),
)
def test_unknown_parts_of_a_configuration_are_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    made("none").save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(InputError, match=rf"config\.json.*{next(iter(changed))}"):
        Embedder.load(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "width", "nan"])
def test_weights_that_do_not_fit_the_neck_are_refused(tmp_path: Path, damage: str) -> None:
    made("bnneck").save(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    if damage == "missing":
        del tensors["neck.weight"]
    else:
        tensors["neck.weight"] = torch.ones(3) if damage == "width" else torch.full((16,), float("nan"))
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(InputError, match=r"model\.safetensors") as caught:
        Embedder.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_embedder_of_unknown_architecture_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="architecture, arguments"):
        Embedder(create_model("cnn6"), SMALL).save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
