import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reappear.core import InputError, onnx_files


def external(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "8"}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(path, *tensors, constants=(), branches=(), functions=()):
    """Tensors as initializers, as constants, in a branch of an If, and in a function."""
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in constants]
    for tensor in branches:
        branch = helper.make_graph(
            [], "branch", [], [helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, [2])], [tensor]
        )
        nodes.append(helper.make_node("If", ["which"], [f"if_{tensor.name}"], then_branch=branch, else_branch=branch))
    graph = helper.make_graph(nodes, "graph", [], [], list(tensors))
    made = helper.make_model(graph)
    for tensor in functions:
        constant = helper.make_node("Constant", [], [tensor.name], value=tensor)
        made.functions.append(
            helper.make_function("own", f"f_{tensor.name}", [], [tensor.name], [constant], made.opset_import)
        )
    path.write_bytes(made.SerializeToString())
    return path


def test_external_data_is_found_in_nested_tensors(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.data", "b.data", "c.data", "sub/d.data"):
        (tmp_path / name).write_bytes(bytes(8))
    inline = numpy_helper.from_array(np.frombuffer(b"location" * 100, np.float32), "inline")
    path = model(
        tmp_path / "m.onnx",
        inline,
        external("a", "a.data"),
        external("a2", "a.data"),
        constants=[external("b", "b.data")],
        branches=[external("c", "c.data")],
        functions=[external("d", "sub/d.data")],
    )
    assert onnx_files(path) == {
        "weights": path,
        **{f"weights/{name}": tmp_path / name for name in ("a.data", "b.data", "c.data", "sub/d.data")},
    }


def test_external_data_saved_by_the_onnx_package(tmp_path):
    tensor = numpy_helper.from_array(np.arange(5000, dtype=np.float32), "w")
    made = helper.make_model(helper.make_graph([], "graph", [], [], [tensor]))
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data")
    assert onnx_files(tmp_path / "m.onnx")["weights/m.onnx.data"] == tmp_path / "m.onnx.data"


def test_missing_external_data_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"m\.onnx keeps weights in m\.data.*m\.data does not exist"):
        onnx_files(model(tmp_path / "m.onnx", external("a", "m.data")))


@pytest.mark.parametrize("location", ["../m.data", "/etc/passwd", "sub/../../m.data"])
def test_external_data_outside_the_folder_is_refused(tmp_path, location):
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "m.data").write_bytes(bytes(8))
    with pytest.raises(InputError, match="leads out of"):
        onnx_files(model(folder / "m.onnx", external("a", location)))


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "text", "cut"])
def test_damaged_model_has_no_external_files(tmp_path, kind):
    path = tmp_path / "m.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "cut":
        whole = model(path, external("a", "a.data")).read_bytes()
        path.write_bytes(whole[: len(whole) // 3])
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"# no model\n" * 50}[kind])
    assert onnx_files(path) == {"weights": path}
