"""What holds for every extractor, and what each promises for itself."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from reappear.core import InputError, MissingExtra, SettingsError
from reappear.models.extractors import (
    ColorExtractor,
    ColorSettings,
    Extractor,
    ModelSettings,
    OnnxExtractor,
    OnnxSettings,
    OpenVinoSettings,
    extractor_settings_for,
)
from reappear.models.extractors.color import _bins_of_colours
from reappear.models.preprocessing import resize_images


def pictures(count=5, seed=0):
    random = np.random.default_rng(seed)
    return [
        random.integers(0, 255, (int(random.integers(20, 150)), int(random.integers(10, 70)), 3)).astype(np.uint8)
        for _ in range(count)
    ]


def onnx_file(path, *, batch="n", side=("h", "w"), channels=3, output=None, kind=TensorProto.FLOAT):
    """A network that gives the mean of each channel."""
    shape = [batch, channels, *side]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels"], ["vector"], axes=[2, 3], keepdims=0),
        ],
        "means",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, output or [batch, channels])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def openvino_file(path):
    openvino = pytest.importorskip("openvino", reason="the openvino extra is not installed")
    openvino.save_model(openvino.convert_model(onnx_file(path.with_suffix(".onnx"), batch=1, side=(8, 4))), path)
    return path


@pytest.fixture(params=["color", "model", "onnx", "openvino"])
def chosen(request, tmp_path):
    return {
        "color": lambda: ColorSettings(),
        "model": lambda: ModelSettings(name="cnn6", height=64, width=32),
        "onnx": lambda: OnnxSettings(weights=onnx_file(tmp_path / "a.onnx"), height=16, width=8),
        "openvino": lambda: OpenVinoSettings(weights=openvino_file(tmp_path / "a.xml")),
    }[request.param]()


def test_every_extractor(chosen):
    extractor = chosen.build()
    assert isinstance(extractor, Extractor)
    assert extractor.name
    images = pictures()
    vectors = extractor(images)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(images), extractor.width)
    assert np.isfinite(vectors).all()
    assert extractor([]).shape == (0, extractor.width)
    # An image's vector does not depend on its neighbours, nor on who built the extractor when.
    assert np.allclose(chosen.build()(images[3:4]), vectors[3:4], rtol=1e-4, atol=1e-5)
    assert all(path.is_file() for path in chosen.files.values())


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_network_with_nan_output_is_refused_on_load(tmp_path, kind):
    path = onnx_file(tmp_path / "a.onnx", batch=1, side=(8, 4))
    network = onnx.load(path)
    network.graph.initializer.append(helper.make_tensor("weight", TensorProto.FLOAT, [1], [float("nan")]))
    network.graph.node[-1].output[0] = "mean"
    network.graph.node.append(helper.make_node("Mul", ["mean", "weight"], ["vector"]))
    onnx.save(network, path)
    chosen = OnnxSettings(weights=path)
    if kind == "openvino":
        openvino = pytest.importorskip("openvino", reason="the openvino extra is not installed")
        openvino.save_model(openvino.convert_model(path), tmp_path / "a.xml")
        chosen = OpenVinoSettings(weights=tmp_path / "a.xml")
    with pytest.raises(InputError, match="NaN or infinite"):
        chosen.build()


# colour


def test_color_imports_no_network():
    code = "import sys, reappear.models.extractors as e; e.ColorSettings().build(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("hues", "values", "greys"), [(12, 3, 6), (1, 1, 1), (7, 2, 4)])
def test_color_bins_sum_to_one(hues, values, greys):
    bins = _bins_of_colours(hues, values, greys)
    assert bins.shape == (1 << 15, hues * values + greys)
    assert np.allclose(bins.sum(axis=1), 1, atol=1e-5)
    assert bins.min() >= 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_color_vectors_have_unit_length(seed):
    assert np.allclose(np.linalg.norm(ColorExtractor()(pictures(3, seed)), axis=1), 1, atol=1e-5)


def test_black_white_and_tiny_images_are_embedded():
    images = [np.zeros((9, 5, 3), np.uint8), np.full((90, 40, 3), 255, np.uint8), np.full((1, 1, 3), 7, np.uint8)]
    assert np.allclose(np.linalg.norm(ColorExtractor()(images), axis=1), 1, atol=1e-5)


def dressed(shirt, trousers, gain=(1, 1, 1)):
    image = np.full((128, 64, 3), 120, float) + np.random.default_rng(1).normal(0, 4, (128, 64, 3))
    image[20:64, 16:48] = shirt
    image[64:120, 20:44] = trousers
    return np.clip(image * gain, 0, 255).astype(np.uint8)


def test_same_clothes_are_nearer_across_cameras_than_other_clothes():
    red_blue = dressed((180, 40, 40), (40, 50, 150))
    same = dressed((180, 40, 40), (40, 50, 150), gain=(0.85, 1.0, 1.15))
    swapped = dressed((40, 50, 150), (180, 40, 40))
    other = dressed((40, 140, 60), (90, 90, 95))
    plain, cast, upside, green = ColorExtractor()([red_blue, same, swapped, other])
    assert plain @ cast > plain @ upside + 0.1
    assert plain @ cast > plain @ green + 0.1
    unbalanced = ColorExtractor(balance=0.0)([red_blue, same])
    assert plain @ cast > unbalanced[0] @ unbalanced[1]


def test_mirrored_image_has_the_same_colours():
    images = [resize_images([image], 64, 32)[0] for image in pictures(4)]  # not resized again: blurs unevenly
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    assert np.allclose(ColorExtractor()(images), ColorExtractor()(mirrored), atol=1e-3)


# onnx


def test_onnx_output_is_that_of_the_file(tmp_path):
    image = np.zeros((10, 10, 3), np.uint8)
    image[..., 0] = 255
    extractor = OnnxSettings(weights=onnx_file(tmp_path / "a.onnx"), mean=(0.0,) * 3, std=(1.0,) * 3).build()
    assert np.allclose(extractor([image]), [[1, 0, 0]])
    bgr = OnnxSettings(weights=tmp_path / "a.onnx", mean=(0.0,) * 3, std=(1.0,) * 3, channels="bgr", scale=1.0).build()
    assert np.allclose(bgr([image]), [[0, 0, 255]])


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.UINT8])
def test_onnx_of_other_types(tmp_path, kind):
    images = [np.random.default_rng(0).integers(0, 255, (16, 8, 3), np.uint8)]
    raw = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "scale": 1.0, "height": 16, "width": 8}
    path = onnx_file(tmp_path / "a.onnx", kind=kind)
    assert np.allclose(OnnxExtractor(path, **raw)(images)[0], images[0].mean(axis=(0, 1)), atol=0.1)
    if kind == TensorProto.UINT8:
        with pytest.raises(InputError, match=r"extractor\.scale 1"):
            OnnxExtractor(path)
    with pytest.raises(InputError, match="int64"):
        OnnxExtractor(onnx_file(tmp_path / "b.onnx", kind=TensorProto.INT64))


def test_onnx_of_fixed_batch_and_size(tmp_path):
    free = OnnxExtractor(onnx_file(tmp_path / "free.onnx"), height=16, width=8)
    fixed = OnnxExtractor(onnx_file(tmp_path / "fixed.onnx", batch=4, side=(16, 8)), height=99, width=99)
    images = pictures(6)
    assert np.allclose(free(images), fixed(images), atol=1e-5)


@pytest.mark.parametrize("wrong", [{"channels": 4}, {"output": ["n", 3, 1]}])
def test_onnx_without_embedding_output_is_refused(tmp_path, wrong):
    if "output" in wrong:
        path = tmp_path / "a.onnx"
        graph = helper.make_graph(
            [helper.make_node("ReduceMean", ["images"], ["boxes"], axes=[3], keepdims=0)],
            "boxes",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 4])],
            [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 3, 8])],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    else:
        path = onnx_file(tmp_path / "a.onnx", **wrong)
    with pytest.raises(InputError, match=r"is not an embedding network: it takes \['n', .* is it a detector"):
        OnnxExtractor(path)


def test_onnx_refuses_other_files(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        OnnxExtractor(tmp_path / "none.onnx")
    (tmp_path / "a.onnx").write_text("no network")
    with pytest.raises(InputError, match="an ONNX model"):
        OnnxExtractor(tmp_path / "a.onnx")


# openvino


def test_openvino_agrees_with_onnx(tmp_path):
    xml = openvino_file(tmp_path / "a.xml")
    images = pictures(3)
    look = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "scale": 1.0, "channels": "bgr"}
    other = OnnxExtractor(tmp_path / "a.onnx", **look)(images)
    assert np.allclose(OpenVinoSettings(weights=xml).build()(images), other, rtol=1e-3)


def test_openvino_refuses_other_files(tmp_path):
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    with pytest.raises(InputError, match=r"does not exist; a network in OpenVINO's format is a \.xml and a \.bin"):
        OpenVinoSettings(weights=tmp_path / "none.xml").build()
    (tmp_path / "a.xml").write_text("no network")
    (tmp_path / "a.bin").touch()
    with pytest.raises(InputError, match="network in OpenVINO's format"):
        OpenVinoSettings(weights=tmp_path / "a.xml").build()


def test_missing_openvino_has_an_install_hint(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"pip install 'reappear\[openvino\]'"):
        OpenVinoSettings(weights=tmp_path / "a.xml").build()


# models


def test_model_folder_sets_size_and_normalisation(tmp_path):
    from reappear.models import create_model, save_model

    config = {"architecture": "cnn6", "arguments": {}, "height": 64, "width": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    save_model(tmp_path / "m", create_model("cnn6"), config, card="")
    images = pictures(2)
    from_folder = ModelSettings(name=str(tmp_path / "m")).build()
    same = ModelSettings(
        name="cnn6", weights=tmp_path / "m" / "model.safetensors", height=64, width=32, mean=(0.5,) * 3, std=(0.5,) * 3
    ).build()
    assert np.allclose(from_folder(images), same(images), atol=1e-6)
    assert from_folder.name == "m"
    with pytest.raises(SettingsError, match="is a model folder and brings its own"):
        ModelSettings(name=str(tmp_path / "m"), weights=tmp_path / "x").build()


def test_random_weights_depend_on_the_seed_alone():
    images = pictures(2)

    def vectors(seed):
        return ModelSettings(name="cnn6", height=64, width=32, seed=seed).build()(images)

    assert np.array_equal(vectors(1), vectors(1))
    assert not np.allclose(vectors(1), vectors(2))


def test_unknown_name_is_refused():
    with pytest.raises(InputError, match="no model is called 'resnet5000'"):
        ModelSettings(name="resnet5000").build()


# by one word


def test_extractor_shorthands(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps({}))
    (tmp_path / "m" / "model.safetensors").touch()
    for name in ("a.onnx", "a.xml"):
        (tmp_path / name).touch()
    assert extractor_settings_for("color") == ColorSettings()
    assert extractor_settings_for(str(tmp_path / "a.onnx")) == OnnxSettings(weights=tmp_path / "a.onnx")
    assert extractor_settings_for(str(tmp_path / "a.xml")) == OpenVinoSettings(weights=tmp_path / "a.xml")
    assert extractor_settings_for(str(tmp_path / "m")) == ModelSettings(name=str(tmp_path / "m"))
    assert extractor_settings_for("resnet18") == ModelSettings(name="resnet18")
    with pytest.raises(InputError, match="is not a model folder"):
        extractor_settings_for(str(tmp_path))
    for missing in ("b.onnx", "b.xml", "models/b"):
        with pytest.raises(InputError, match="does not exist"):
            extractor_settings_for(str(tmp_path / missing))


@pytest.mark.real
def test_detector_is_refused_as_extractor(real_data):
    with pytest.raises(InputError, match=r"gives \[1, 3549, 85\].*is it a detector"):
        OnnxExtractor(real_data / "weights" / "yolox_nano.onnx")


@pytest.mark.real
@pytest.mark.parametrize("chosen", [
    "osnet_x0_25_msmt17.onnx", "openvino/person-reidentification-retail-0277.xml", "color",
])  # fmt: skip
def test_images_of_one_person_are_nearer_than_of_two(real_data, chosen):
    import cv2

    weights = real_data / "weights" / chosen
    extractor = extractor_settings_for(str(weights) if weights.exists() else chosen).build()
    files = sorted((real_data / "cuhk03_np" / "bounding_box_train").iterdir())[:120]
    people = np.array([int(file.name[:4]) for file in files])
    vectors = extractor([cv2.imread(str(file))[..., ::-1].copy() for file in files])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T
    same = people[:, None] == people
    assert alike[same & ~np.eye(len(files), dtype=bool)].mean() > alike[~same].mean() + 0.05
