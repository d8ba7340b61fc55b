"""An exported model gives the vectors and the scores of the model."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from reappear.core import InputError, WorkspaceError
from reappear.data import decode_image
from reappear.models import BNNeck, Embedder, Preprocessing, create_model
from reappear.models.extractors import OnnxSettings, extractor_settings_for
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.evaluate import EvaluateSettings, evaluate_one
from reappear.pipeline.export_model import ExportModelSettings, export_model
from reappear.pipeline.workspace import Workspace
from reappear.store import read_embeddings

from .pretrain_fixture import make_validation_set, make_workspace

MODELS = {
    "small": ("cnn6", {"width": 8}, Preprocessing(height=32, width=16, mean=(0.4,) * 3), "none"),
    "cnn": ("resnet18", {}, Preprocessing(height=64, width=32), "bnneck"),
    "vit": ("vit_tiny", {}, Preprocessing(height=64, width=32, std=(0.5,) * 3), "none"),
}


def make_model(folder: Path, kind: str) -> Path:
    architecture, arguments, preprocessing, neck = MODELS[kind]
    torch.manual_seed(3)
    backbone = create_model(architecture, **arguments)
    last = BNNeck(backbone.num_features) if neck == "bnneck" else None
    if last is not None and last.running_mean is not None:
        last.running_mean.uniform_(0, 1)
    config = {"architecture": architecture, "arguments": arguments}
    Embedder(backbone, preprocessing, neck=last, config=config).save(folder, card="# The card\n")
    return folder


@pytest.mark.parametrize("kind", MODELS)
def test_onnx_has_the_map_and_the_vectors_of_the_model(tmp_path, kind):
    model = make_model(tmp_path / "m", kind)
    record = export_model(model, tmp_path / "out", ExportModelSettings())
    assert record.counts["largest_difference"] < 1e-5
    file = tmp_path / "out" / "m.onnx"

    work = Workspace(tmp_path / "w")
    people = make_validation_set(tmp_path / "people", people=8)
    scores = [
        evaluate_one(
            work, name, EvaluateSettings(extractor=extractor_settings_for(str(path)), bootstrap=10), data=people
        )
        for name, path in (("torch", model), ("onnx", file))
    ]
    assert scores[1].counts["mean_ap"] == pytest.approx(scores[0].counts["mean_ap"], abs=5e-5)

    crops = make_workspace(tmp_path / "c")
    found = []
    for name, path in (("torch", model), ("onnx", file)):
        embed(crops, name, EmbedSettings(extractor=extractor_settings_for(str(path))))
        found.append(read_embeddings(crops.embeddings(name))[0])
    assert np.abs(np.subtract(*found, dtype=np.float32)).max() < 2e-3  # stored as float16


def test_openvino_has_the_vectors_of_the_model(tmp_path):
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    model = make_model(tmp_path / "m", "small")
    record = export_model(model, tmp_path / "out", ExportModelSettings(to="openvino"))
    assert record.counts["largest_difference"] < 1e-4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "m.xml", "m.bin", "config.json", "README.md", "record.json"
    }  # fmt: skip


def test_export_says_what_goes_in_and_out(tmp_path):
    import onnx

    model = make_model(tmp_path / "m", "small")
    export_model(model, tmp_path / "out", ExportModelSettings())
    proto = onnx.load(tmp_path / "out" / "m.onnx")
    shapes = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*proto.graph.input, *proto.graph.output)
    ]
    assert shapes == [["batch", 3, 32, 16], ["batch", shapes[1][1]]]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["input"]["name"], config["output"]["name"]) == ("images", "embeddings")
    assert config["mean"] == [0.4] * 3
    assert (tmp_path / "out" / "README.md").read_text().startswith("# The card\n")
    assert str(tmp_path) not in "".join(
        path.read_text(errors="replace") for path in (tmp_path / "out").iterdir() if path.name != "record.json"
    )


def test_own_preprocessing_of_a_file_can_be_overridden_and_must_be_sound(tmp_path):
    import onnx

    model = make_model(tmp_path / "m", "small")
    export_model(model, tmp_path / "out", ExportModelSettings())
    file = tmp_path / "out" / "m.onnx"
    image = np.random.default_rng(0).integers(0, 256, (50, 30, 3), np.uint8)
    embedder = Embedder.load(model)
    embedder.preprocessing = Preprocessing(height=32, width=16, mean=(0.1,) * 3)
    assert np.allclose(OnnxSettings(weights=file, mean=(0.1,) * 3).build()([image]), embedder([image]), atol=1e-4)
    for text in ("[]", '{"height": "x"}', '{"depth": 3}', "{"):
        proto = onnx.load(file)
        onnx.helper.set_model_props(proto, {"reappear.preprocessing": text})
        onnx.save(proto, tmp_path / "bad.onnx")
        with pytest.raises(InputError, match=r"bad\.onnx: reappear"):
            OnnxSettings(weights=tmp_path / "bad.onnx").build()


def test_layout_of_trackers(tmp_path):
    torch.manual_seed(0)
    model = create_model("timm:resnet18")
    config = {"architecture": "timm:resnet18", "arguments": {}}
    Embedder(model, Preprocessing(height=64, width=32), config=config).save(tmp_path / "m")
    export_model(tmp_path / "m", tmp_path / "out", ExportModelSettings(to="trackers"))
    described = json.loads((tmp_path / "out" / "reid_config.json").read_text())
    assert described["architecture"] == "timm:resnet18"
    assert described["preprocessing"]["input_size"] == [64, 32]

    # As `build_architecture` and `load_state_dict_for_architecture` of trackers do.
    import timm
    from safetensors.torch import load_file

    theirs = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    theirs.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    pixels = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(theirs(pixels), model.eval()(pixels))


@pytest.mark.parametrize("kind", MODELS)
def test_layout_of_trackers_refuses_other_networks(tmp_path, kind):
    with pytest.raises(InputError, match="--to onnx"):
        export_model(make_model(tmp_path / "m", kind), tmp_path / "out", ExportModelSettings(to="trackers"))
    assert not (tmp_path / "out").exists()


def test_other_folders_are_refused(tmp_path):
    model = make_model(tmp_path / "m", "small")
    with pytest.raises(InputError, match="not a model folder"):
        export_model(tmp_path / "none", tmp_path / "out", ExportModelSettings())
    (tmp_path / "out").mkdir()
    with pytest.raises(WorkspaceError, match="name another output"):
        export_model(model, tmp_path / "out", ExportModelSettings())


def test_vectors_that_differ_are_refused(tmp_path, monkeypatch):
    from reappear.models import portable

    model = make_model(tmp_path / "m", "small")
    monkeypatch.setattr(portable, "_as_json", lambda embedder: '{"height": 32, "width": 16, "mean": [0.7, 0.4, 0.4]}')
    with pytest.raises(InputError, match="more than"):
        export_model(model, tmp_path / "out", ExportModelSettings())
    assert not (tmp_path / "out").exists()


def test_code_of_the_how_to_gives_the_vectors_of_the_model(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "how-to-export-models.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(code, names)
    model = make_model(tmp_path / "m", "small")
    export_model(model, tmp_path / "out", ExportModelSettings())
    frame = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    boxes = np.array([[10, 5, 50, 100, 0.9, 0], [-8, 3, 9.6, 22, 0.8, 0], [150, 100, 400, 300, 0.5, 0]])
    appearance = names["Appearance"](str(tmp_path / "out" / "m.onnx"))
    crops = [frame[5:100, 10:50, ::-1], frame[3:22, 0:10, ::-1], frame[100:, 150:, ::-1]]
    expected = Embedder.load(model)([np.ascontiguousarray(crop) for crop in crops])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(appearance(boxes, frame) - expected).max() < 1e-4
    assert appearance(boxes[:0], frame).shape == (0, expected.shape[1])


@pytest.mark.real
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_vectors_of_real_crops(tmp_path, real_data, to):
    if to == "openvino":
        pytest.importorskip("openvino", reason="the openvino extra is not installed")
    images = [decode_image(path.read_bytes()) for path in sorted((real_data / "cuhk01").glob("*.png"))[:32]]
    for kind in MODELS:
        model = make_model(tmp_path / kind, kind)
        export_model(model, tmp_path / f"{kind}-{to}", ExportModelSettings(to=to))
        file = next((tmp_path / f"{kind}-{to}").glob(f"{kind}.{'xml' if to == 'openvino' else 'onnx'}"))
        found, expected = extractor_settings_for(str(file)).build()(images), Embedder.load(model)(images)
        units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (found, expected)]
        assert np.abs(units[0] - units[1]).max() < 1e-4
