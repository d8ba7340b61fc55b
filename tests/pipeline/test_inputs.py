"""Every step × every field of every input: changed alone, the step runs anew or refuses; unchanged, it is already done.

Fields are found, not listed: those of dataclasses, columns of tables, arrays of `.npz` files, files beside weights. A
new one is covered as soon as it is there.
"""

import dataclasses
import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from reappear.core import ImageTable, WorkspaceError
from reappear.data import READERS, Layout
from reappear.methods.cion.settings import CionSettings
from reappear.models.extractors import ColorSettings, ModelSettings, OnnxSettings
from reappear.pipeline.contents import hash_images, hash_value
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.evaluate import EvaluateSettings, evaluate_files, evaluate_one
from reappear.pipeline.evaluate.splits import EvalSplit
from reappear.pipeline.export_data import ExportDataSettings, export_data
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.outputs import hash_outputs
from reappear.pipeline.pretrain import PretrainSettings, pretrain
from reappear.pipeline.record import OWN_FILES, read_record
from reappear.pipeline.review import ReviewTarget, review
from reappear.pipeline.workspace import Workspace
from reappear.store import FileHashes
from reappear.video.detectors import MotSettings
from tests.data.trees import draw
from tests.pipeline.ingest.test_videos import Listener
from tests.video.films import pictures, write_film

UNTRAINED = PretrainSettings(steps=0, backbone="cnn6", method=CionSettings())  # does with a single identity
TABLE_FIELDS = [field.name for field in dataclasses.fields(ImageTable)]


def runs_anew(call) -> bool:
    """Whether a step does not take what is there for its result."""
    try:
        return not call().already_done
    except WorkspaceError as error:
        return "other" in str(error)


def other(value):
    """Another value of the same type, different in one place."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "US":
        return np.array([*value[:-1].tolist(), other(str(value[-1]))])
    if isinstance(value, np.ndarray):
        changed = value.copy()
        last = changed.reshape(-1)[-1]
        changed.reshape(-1)[-1] = ~last if value.dtype.kind == "b" else 0 if np.isnan(last) else last + 1
        return changed
    if isinstance(value, dict):
        return value | {"new": "reason"}
    if isinstance(value, tuple):
        return (*value, "new")
    if isinstance(value, str):
        return {"train": "query", "query": "gallery", "gallery": "query"}.get(value, value + "x")
    if isinstance(value, Path):
        return value / "new"
    raise TypeError(f"give an example of another {type(value).__name__}")


def replace_content(path: Path) -> None:
    """Other bytes of the same length and the same times: only ctime shows it."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def images(tmp_path):
    """A set whose table a test may change, read by a layout of its own and as Market-1501."""
    root = tmp_path / "set"
    rows = [(person, camera) for person in range(4) for camera in (1, 2)]
    paths = [root / f"{person}_{camera}.png" for person, camera in rows]
    for path, (person, camera) in zip(paths, rows, strict=True):
        draw(path, person, size=(16, 32 + camera))
    return ImageTable(
        np.array([str(path) for path in paths]),
        np.array([person for person, _ in rows]),
        np.array([camera for _, camera in rows]),
        np.array([0 for _ in rows]),
        np.array(["query" if camera == 1 else "gallery" for _, camera in rows]),
        {str(root / "left out"): "why"},
        ("a", "b", "c", "d", "e"),
        ("", "left", "right", "behind"),
    )


@pytest.fixture
def read_as(images, monkeypatch):
    """Makes every reader of a set return this table."""

    def set_table(table):
        layout = Layout(read=lambda root: table, matches=lambda root: False, description="")
        monkeypatch.setitem(READERS, "made_up", layout)
        monkeypatch.setitem(READERS, "market1501", layout)

    set_table(images)
    return set_table


def table_with(table: ImageTable, field: str) -> ImageTable:
    if field == "path":  # the same content under another name
        moved = str(table.path[-1]).replace(".png", "_moved.png")
        shutil.copyfile(table.path[-1], moved)
        return dataclasses.replace(table, path=np.array([*table.path[:-1].tolist(), moved]))
    return dataclasses.replace(table, **{field: other(getattr(table, field))})


@pytest.mark.parametrize("field", TABLE_FIELDS)
def test_every_field_of_a_table_is_in_its_hash(images, field):
    root = Path(images.path[0]).parent
    assert hash_value(images, root=root) == hash_value(dataclasses.replace(images), root=root)
    assert hash_value(table_with(images, field), root=root) != hash_value(images, root=root)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EvalSplit)])
def test_every_field_of_sides_is_in_their_hash(images, field):
    root = Path(images.path[0]).parent
    split = EvalSplit("set", images, {"why": 1}, root)
    changed = table_with(images, "camera") if field == "table" else other(getattr(split, field))
    assert hash_value(dataclasses.replace(split, **{field: changed}), root=root) != hash_value(split, root=root)


def test_moved_set_has_the_same_hash(images, tmp_path):
    root = Path(images.path[0]).parent
    moved = root.rename(tmp_path / "moved")
    paths = np.array([str(moved / Path(path).name) for path in images.path])
    skipped = {str(moved / "left out"): "why"}
    again = dataclasses.replace(images, path=paths, skipped=skipped)
    assert hash_value(again, root=moved) == hash_value(images, root=root)


def evaluated(images, work):
    name = f"made_up:{Path(images.path[0]).parent}"
    return lambda: evaluate_one(work, "one", EvaluateSettings(bootstrap=10), data=name)


def ingested(images, work):
    return lambda: ingest([Path(images.path[0]).parent], work, IngestSettings(layout="made_up", workers=1))


def validated(images, work):
    ingested(images, work)()
    settings = PretrainSettings(steps=0, validation=Path(images.path[0]).parent, backbone="cnn6")
    return lambda: pretrain(work, "m", settings, labels="instance")


# What of the table a step does not read: an evaluation is the same whatever people and cameras are called.
UNREAD = {evaluated: {"names", "cameras"}, validated: {"skipped"}, ingested: set()}


@pytest.mark.parametrize("step", [evaluated, ingested, validated])
def test_change_of_any_field_changes_the_input(images, read_as, tmp_path, step):
    call = step(images, Workspace(tmp_path / "w"))
    assert not call().already_done
    assert call().already_done
    for field in TABLE_FIELDS:
        read_as(table_with(images, field))
        assert runs_anew(call) or field in UNREAD[step], field
    read_as(images)
    assert call().already_done
    replace_content(Path(images.path[2]))
    assert runs_anew(call)


def test_changed_labels_do_not_recompute_embeddings(images, read_as, tmp_path):
    work = Workspace(tmp_path / "w")
    data = f"made_up:{Path(images.path[0]).parent}"
    evaluate_one(work, "wrong", EvaluateSettings(bootstrap=10), data=data)
    read_as(dataclasses.replace(images, identity=np.roll(images.identity, 2), camera=images.camera + 1))
    evaluate_one(work, "right", EvaluateSettings(bootstrap=10), data=data)
    assert len(list((work.root / "vectors").iterdir())) == 1
    replace_content(Path(images.path[0]))
    evaluate_one(work, "other", EvaluateSettings(bootstrap=10), data=data)
    assert len(list((work.root / "vectors").iterdir())) == 2


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_images_inside_archives_are_hashed_by_content(images, tmp_path, kind):
    path = tmp_path / f"images.{kind}"
    path.write_bytes(bytes(100))
    names = [f"{path}@0+50", f"{path}@50+50"] if kind == "tar" else [f"{path}@0", f"{path}@1"]
    table = ImageTable(np.array(names), *(np.zeros(2, np.int64),) * 3, np.array(["train"] * 2))
    hashes = FileHashes(tmp_path / "hashes.sqlite")
    before = hash_images(table, hashes)
    assert hash_images(dataclasses.replace(table, path=table.path[::-1]), hashes) != before
    replace_content(path)
    assert hash_images(table, hashes) != before


# --- steps that read what other steps wrote


@pytest.fixture
def work(images, read_as, tmp_path):
    place = Workspace(tmp_path / "w")
    ingest([Path(images.path[0]).parent], place, IngestSettings(layout="made_up", workers=1, labels_are_truth=True))
    embed(place, "e", EmbedSettings())
    correlate(place, "i", CorrelateSettings(thresholds="0.3,0.3"), embeddings="e")
    return place


STEPS = {
    "embed": (lambda w, out: embed(w, "new", EmbedSettings()), ["crops"]),
    "correlate": (
        lambda w, out: correlate(w, "new", CorrelateSettings(thresholds="0.2,0.2"), embeddings="e", start="i"),
        ["crops", "embeddings/e", "identities/i"],
    ),
    "pretrain": (
        lambda w, out: pretrain(w, "new", UNTRAINED, labels="i"),
        ["crops", "identities/i"],
    ),
    "export-data": (
        lambda w, out: export_data(w, out, ExportDataSettings(), identities="i"),
        ["crops", "identities/i"],
    ),
    "label-issues": (
        lambda w, out: export_data(w, out, ExportDataSettings(to="label-issues"), identities="i"),
        ["crops", "identities/i", "embeddings/e"],
    ),
}


def made_anew(folder: Path) -> None:
    """The record that a step would have written had it written these files."""
    record = dataclasses.replace(read_record(folder), outputs=hash_outputs(folder, ignore=OWN_FILES))
    (folder / "record.json").write_text(record.to_json())


def changes(folder: Path):
    """Each column of each table, and each other file of data: its name, and the bytes it would have."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for name in table.column_names:
                values = table.column(name).to_numpy()
                if len(values):
                    column = pa.array(other(values.astype(str) if values.dtype == object else values).tolist())
                    at = table.column_names.index(name)
                    yield path, name, partial(pq.write_table, table.set_column(at, name, column), path)
        elif path.suffix in (".npy", ".tar", ".safetensors"):
            yield path, "bytes", partial(replace_content, path)


@pytest.mark.parametrize("name", STEPS)
def test_every_column_of_step_outputs_is_hashed(work, tmp_path, name):
    step, folders = STEPS[name]
    out = tmp_path / "out"
    assert not step(work, out).already_done
    assert step(work, out).already_done
    seen = 0
    for folder in folders:
        record = (work.root / folder / "record.json").read_bytes()
        for path, column, change in changes(work.root / folder):
            before = path.read_bytes()
            change()
            made_anew(work.root / folder)
            assert runs_anew(lambda: step(work, out)), f"{path}: {column}"
            path.write_bytes(before)
            seen += 1
        (work.root / folder / "record.json").write_bytes(record)
    assert step(work, out).already_done
    assert seen > 10


# --- steps that read files


def csv_of(columns):
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))])


def test_every_column_of_external_embeddings_is_hashed(tmp_path):
    vectors, labels = tmp_path / "v.npy", tmp_path / "v.csv"
    np.save(vectors, np.eye(4, dtype=np.float32))
    columns = {
        "identity": ["a", "a", "b", "b"],
        "camera": ["1", "1", "2", "2"],
        "video": ["x", "x", "y", "y"],
        "tracklet": ["0", "0", "1", "1"],
        "truth": ["0", "0", "1", "1"],
        "time": ["0.0", "1.0", "0.0", "1.0"],
        "path": ["p", "q", "r", "s"],
    }
    labels.write_text(csv_of(columns))

    def call():
        return ingest([vectors, labels], Workspace(tmp_path / "w"), IngestSettings())

    assert not call().already_done
    assert call().already_done
    for name, values in columns.items():
        labels.write_text(csv_of(columns | {name: [*values[:-1], values[0] + "0"]}))
        assert runs_anew(call), name
    labels.write_text(csv_of(columns))
    assert call().already_done
    replace_content(vectors)
    assert runs_anew(call)


def test_every_array_of_npz_files_is_hashed(tmp_path):
    arrays = {
        "features": np.eye(4, dtype=np.float32),
        "ids": np.array([1, 1, 2, 2]),
        "cameras": np.array([1, 2, 1, 2]),
        "paths": np.array(["a", "b", "c", "d"]),
    }
    sides = {name: tmp_path / f"{name}.npz" for name in ("query", "gallery")}
    for path in sides.values():
        np.savez(path, **arrays)
    settings = EvaluateSettings(bootstrap=10)

    def call(model="m"):
        return evaluate_files(Workspace(tmp_path / "w"), "n", settings, **sides, model=model)

    assert not call().already_done
    assert call().already_done
    assert runs_anew(lambda: call("another"))
    for path in sides.values():
        for name, values in arrays.items():
            np.savez(path, **arrays | {name: other(values)})
            assert runs_anew(call), f"{path.name}: {name}"
        np.savez(path, **arrays)
    assert call().already_done


def test_every_file_of_a_video_is_hashed(tmp_path):
    film = tmp_path / "films" / "a.mp4"
    film.parent.mkdir()
    write_film(film, pictures(10))
    boxes = "".join(f"{frame},1,10,10,30,80,1,-1,-1,-1\n" for frame in range(1, 11))
    (film.parent / "a.det.txt").write_text(boxes)
    (film.parent / "a.gt.txt").write_text(boxes.replace(",-1,-1,-1", ",1,1"))

    def call():
        return ingest([film], Workspace(tmp_path / "w"), IngestSettings(workers=1, detector=MotSettings()))

    assert not call().already_done
    assert call().already_done
    for path in sorted(film.parent.iterdir()):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert runs_anew(call), path.name
        path.write_bytes(before)
    film.rename(film.with_name("b.mp4"))
    for name in ("det", "gt"):
        (film.parent / f"a.{name}.txt").rename(film.parent / f"b.{name}.txt")
    (part,) = (tmp_path / "w" / "parts").iterdir()
    before = part.stat().st_mtime_ns
    work = Workspace(tmp_path / "w")
    assert not ingest([film.with_name("b.mp4")], work, IngestSettings(workers=1, detector=MotSettings())).already_done
    assert work.open_crops().video_names == ["b"]
    assert [one.stat().st_mtime_ns for one in work.parts.iterdir()] == [before]


def onnx_with_data(path: Path) -> Path:
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(3, 400)).astype(np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["vector"]),
        ],
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 16, 8])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 400])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return path


def model_folder(path: Path) -> Path:
    from reappear.models import create_model, save_model

    config = {"architecture": "cnn6", "arguments": {}, "height": 64, "width": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    save_model(path, create_model("cnn6"), config, card="")
    return path


EXTRACTORS = {
    "color": lambda path: ColorSettings(),
    "onnx": lambda path: OnnxSettings(weights=onnx_with_data(path / "m.onnx")),
    "model": lambda path: ModelSettings(name=str(model_folder(path / "m"))),
    "weights": lambda path: ModelSettings(name="cnn6", weights=model_folder(path / "m")),
}


@pytest.mark.parametrize("kind", EXTRACTORS)
def test_every_file_of_an_extractor_is_hashed(work, images, tmp_path, kind):
    extractor = EXTRACTORS[kind](tmp_path)
    calls = [
        lambda: embed(work, "new", EmbedSettings(extractor=extractor)),
        lambda: evaluate_one(
            work, "new", EvaluateSettings(extractor=extractor, bootstrap=10), data=f"made_up:{tmp_path / 'set'}"
        ),
    ]
    for call in calls:
        assert not call().already_done
        assert call().already_done
    assert kind != "onnx" or len(extractor.files) == 2
    for path in extractor.files.values():
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert all(runs_anew(call) for call in calls), path.name
        path.write_bytes(before)
    assert all(call().already_done for call in calls)


def test_initial_weights_and_decisions_are_hashed(work, tmp_path):
    init = model_folder(tmp_path / "m")

    def train():
        return pretrain(work, "new", PretrainSettings(steps=0, backbone="cnn6", init=init), labels="instance")

    def link():
        return correlate(work, "new", CorrelateSettings(thresholds="0.3,0.3"), embeddings="e")

    for call in (train, link):
        assert not call().already_done
        assert call().already_done
    with (init / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert runs_anew(train)
    review(work, "different", ReviewTarget([0, 1]))
    assert runs_anew(link)


def test_new_identities_under_an_old_name_are_another_input(work, tmp_path):
    data = f"workspace,identities=i:{work.root}"
    settings = EvaluateSettings(bootstrap=10, protocol="no-camera", split="first-image")
    calls = [
        lambda: evaluate_one(work, "n", settings, data=data),
        lambda: pretrain(work, "n", UNTRAINED, labels="i"),
        lambda: export_data(work, tmp_path / "out", ExportDataSettings(), identities="i"),
    ]
    for call in calls:
        call()
        assert call().already_done
    shutil.rmtree(work.identities("i"))
    correlate(work, "i", CorrelateSettings(thresholds="0.3,0.3", cross_video=False), embeddings="e")
    assert [runs_anew(call) for call in calls] == [True] * 3


def test_moved_workspace_continues(work, tmp_path):
    moved = Workspace(work.root.rename(tmp_path / "moved"))
    assert embed(moved, "e", EmbedSettings()).already_done
    assert correlate(moved, "i", CorrelateSettings(thresholds="0.3,0.3"), embeddings="e").already_done


def test_text_files_are_not_hashed(work):
    """Such as report.json, which holds the seconds that stages took."""
    report = work.identities("i") / "report.json"
    report.write_text(json.dumps({**json.loads(report.read_text()), "seconds": 1}))
    made_anew(work.identities("i"))
    listener = Listener()
    pretrain(work, "m", UNTRAINED, labels="i", progress=listener)
    assert pretrain(work, "m", UNTRAINED, labels="i").already_done
