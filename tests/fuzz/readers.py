"""Every reader of files from outside, fed with damaged files. A new reader is one line of `READERS`.

Runs as `python -m tests.fuzz.readers COUNT NAME...`, a process of its own: a parser in C that crashes or hangs takes it
along, and the last line that it printed says with which reader and which damage.
"""

import io
import json
import resource
import signal
import sys
import tarfile
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reappear.core import Assignment, Decision, ReappearError, read_json, read_text
from reappear.data import decode_image, image_size, read, read_image, read_labels

SECONDS = 60  # for one file, on a busy machine too
MEGABYTES = 1_500  # that reading one file may add to the memory of the process
ALLOCATION = 6 << 30  # bytes of address space beyond which an allocation fails


@dataclass(frozen=True)
class Reader:
    """How a file is written, and read.

    Attributes:
        write: Fills an empty folder; returns the file to be damaged.
        read: Is given that file.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], object]


def _file(name: str, data: Callable[[], bytes] | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data())
        return path

    return write


def _image(kind: str) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 16, 3)).astype(np.uint8)).save(out, kind)
    return out.getvalue()


def _decode(path: Path) -> None:
    data = read_image(str(path))
    for decode in (image_size, decode_image):
        try:
            decode(data)
        except ReappearError:
            continue


def _set(layout: str, file: str) -> Reader:
    """A data set of which one file is damaged; images that it names are read too."""
    from tests.data.trees import TREES

    def write(folder: Path) -> Path:
        TREES[layout](folder)
        return folder / file

    def read_all(path: Path) -> None:
        root = path.parents[len(Path(file).parts) - 1]
        for image in read(layout, root).path[:20]:
            try:
                image_size(read_image(str(image)))
            except ReappearError:
                continue

    return Reader(write, read_all)


def _exported(layout: str, write: Callable[[Path], Path]) -> Reader:
    return Reader(write, lambda path: [_decode(Path(str(image))) for image in read(layout, path.parent).path[:20]])


def _coco(folder: Path) -> Path:
    (folder / "a.jpg").write_bytes(_image("JPEG"))
    images = [{"id": 1, "file_name": "a.jpg", "camera_id": 2, "width": 16, "height": 32}]
    found = [{"id": 1, "image_id": 1, "track_id": 3, "identity_id": 4}]
    return _file("annotations.json", json.dumps({"images": images, "annotations": found}).encode())(folder)


def _tar(folder: Path) -> Path:
    with tarfile.open(folder / "images-0.tar", "w") as tar:
        for name, data in (("0.jpg", _image("JPEG")), ("0.json", json.dumps({"identity": 1, "camera": 2}).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return folder / "images-0.tar"


def _parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": _image("JPEG"), "path": None}, "identity": i, "camera": i % 2} for i in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "images-0.parquet", row_group_size=2)
    return folder / "images-0.parquet"


def _csv_table(folder: Path) -> Path:
    (folder / "a.jpg").write_bytes(_image("JPEG"))
    return _file("a.csv", _CSV)(folder)


def _table(folder: Path) -> Path:
    from reappear.store import write_table

    write_table(folder / "t.parquet", {"path": ["a", "b"], "identity": np.arange(2), "time": np.arange(2) / 3})
    return folder / "t.parquet"


def _labels(path: Path) -> object:
    return read_labels(path, labels=("identity", "camera"), times=("time",))


def _tables(path: Path) -> object:
    from reappear.store import read_table

    return read_table(path), read_table(path, "identity")


def _identities(folder: Path) -> Path:
    from reappear.store import Identities, write_identities

    assignment = Assignment(np.array([0, 0, 1]), np.array([0, 0]))
    write_identities(folder, Identities(assignment, {}, {}, {"stages": [], "embeddings": {"name": "round0"}}))
    return folder / "report.json"


def _read_identities(path: Path) -> object:
    from reappear.store import read_identities

    return read_identities(path.parent)


def _record(folder: Path) -> Path:
    from reappear.pipeline.record import Record

    record = Record("embed", "0f", {"a": {"b": 1}}, {"crops": "ab"}, {"crops": 3, "x": 0.5}, {"bad": 1}, 1.0, 2.0, {})
    return _file("record.json", record.to_json().encode())(folder)


def _read_record(path: Path) -> object:
    from reappear.pipeline.record import read_record

    return read_record(path.parent)


def _review(folder: Path) -> Path:
    from reappear.store import append_decision

    for kind in ("same", "different"):
        append_decision(folder / "review.jsonl", Decision(kind, (1, 2), note="a"), footage="f")
    return folder / "review.jsonl"


def _read_review(path: Path) -> object:
    from reappear.store import read_decisions

    return read_decisions(path, footage="f")


def _read_run(path: Path) -> object:
    from reappear.pipeline.report.gather import _read_json, _read_lines

    return (_read_lines if path.suffix == ".jsonl" else _read_json)(path)


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.eye(4, dtype=np.float16))
    return out.getvalue()


def _read_npy(path: Path) -> object:
    from reappear.store import read_npy

    return np.asarray(read_npy(path)).tobytes()


def _embeddings(folder: Path) -> Path:
    from reappear.store import write_embeddings

    write_embeddings(folder, np.eye(4, dtype=np.float16), {"extractor": "color"})
    return folder / "vectors.npy"


def _read_embeddings(path: Path) -> object:
    from reappear.store import read_embeddings

    return read_embeddings(path.parent)


def _npz(compressed: bool) -> bytes:
    out = io.BytesIO()
    save: Any = np.savez_compressed if compressed else np.savez
    save(out, features=np.eye(4, dtype=np.float32), ids=np.arange(4), cameras=np.array(["a", "b", "a", "b"]))
    return out.getvalue()


def _read_npz(path: Path) -> object:
    from reappear.pipeline.evaluate.vectors import read_files

    return read_files(path, path, protocol="cross-camera")


def _mat() -> bytes:
    from scipy.io import savemat

    out = io.BytesIO()
    savemat(out, {"other": [[1.0]], "track": np.arange(12.0).reshape(3, 4)}, do_compression=True)
    return out.getvalue()


def _read_mat(path: Path) -> object:
    from reappear.data.mat import read_mat

    return read_mat(path, "track", columns=4)


def _members(path: Path) -> object:
    from reappear.store import members

    return members(path)


def _model(folder: Path, file: str) -> Path:
    from reappear.models import create_model, save_model

    config = {"architecture": "cnn6", "arguments": {"width": 4}, "height": 32, "width": 16}
    save_model(folder, create_model("cnn6", width=4), {**config, "mean": [0.5] * 3, "std": [0.25] * 3}, card="")
    return folder / file


def _read_model(path: Path) -> object:
    from reappear.models import load_model

    return load_model(path.parent)


def _pth(legacy: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import torch

        from reappear.models import create_model

        state = {"model": create_model("cnn6", width=4).state_dict(), "epoch": 3, "names": ["a", {"b": (1, 2.5)}]}
        torch.save(state, folder / "w.pth", _use_new_zipfile_serialization=not legacy)
        return folder / "w.pth"

    return write


def _read_pth(path: Path) -> object:
    from reappear.models import create_model, load_checkpoint

    return load_checkpoint(create_model("cnn6", width=4), path)


def _onnx(folder: Path) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((8, 3), np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["m", "w"], ["y"], transB=1),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return _file("m.onnx", model.SerializeToString())(folder)


def _read_onnx(path: Path) -> object:
    from reappear.models.extractors import OnnxSettings

    return OnnxSettings(weights=path, height=16, width=8, threads=1).build()([np.zeros((16, 8, 3), np.uint8)])


def _openvino(folder: Path, file: str) -> Path:
    import openvino

    openvino.save_model(openvino.Core().read_model(str(_onnx(folder))), str(folder / "m.xml"), compress_to_fp16=False)
    return folder / file


def _read_openvino(path: Path) -> object:
    from reappear.models.extractors import OpenVinoSettings

    extractor = OpenVinoSettings(weights=path.with_suffix(".xml"), height=16, width=8).build()
    return extractor([np.zeros((16, 8, 3), np.uint8)])


_CSV = b"path,identity,camera,time\na.jpg,1,2,0.5\nb.jpg,1,3,1.5\nc.jpg,2,,\n"
_ROWS = b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'
READERS: dict[str, Reader] = {
    "text": Reader(_file("a.txt", b"some text\n"), read_text),
    "json": Reader(_file("a.json", b'{"a": [1, 2.5, "x", null, {"b": true}]}'), read_json),
    "record": Reader(_record, _read_record),
    "report": Reader(_identities, _read_identities),
    "report of a run": Reader(_file("report.json", b'{"stages": [{"n": 1}]}'), _read_run),
    "metrics": Reader(_file("metrics.jsonl", _ROWS), _read_run),
    "review": Reader(_review, _read_review),
    "coco": _exported("coco", _coco),
    "cion_al": _set("cion_al", "cional_annos.json"),
    "synth_pedes": _set("synth_pedes", "synthpedes_dataset.json"),
    "prid2011": _set("prid2011", "splits_prid2011.json"),
    "msmt17": _set("msmt17", "list_train.txt"),
    "mars names": _set("mars", "info/test_name.txt"),
    "mars tracks": _set("mars", "info/tracks_test_info.mat"),
    "mat": Reader(_file("a.mat", _mat), _read_mat),
    "csv": Reader(_file("a.csv", _CSV), _labels),
    "table": Reader(_csv_table, lambda path: read("table", path)),
    "labels in parquet": Reader(_table, _labels),
    "parquet": Reader(_table, _tables),
    "images in parquet": _exported("parquet", _parquet),
    "tar": _exported("webdataset", _tar),
    "shard": Reader(_tar, _members),
    **{kind: Reader(_file("a.jpg", _image(kind)), _decode) for kind in ("JPEG", "PNG", "BMP", "WEBP")},
    "npy": Reader(_file("a.npy", _npy), _read_npy),
    "embeddings": Reader(_embeddings, _read_embeddings),
    "npz": Reader(_file("a.npz", lambda: _npz(False)), _read_npz),
    "compressed npz": Reader(_file("a.npz", lambda: _npz(True)), _read_npz),
    "safetensors": Reader(lambda folder: _model(folder, "model.safetensors"), _read_model),
    "config.json": Reader(lambda folder: _model(folder, "config.json"), _read_model),
    "pth": Reader(_pth(legacy=False), _read_pth),
    "legacy pth": Reader(_pth(legacy=True), _read_pth),
    "onnx": Reader(_onnx, _read_onnx),
    "openvino xml": Reader(lambda folder: _openvino(folder, "m.xml"), _read_openvino),
    "openvino bin": Reader(lambda folder: _openvino(folder, "m.bin"), _read_openvino),
}
NASTY = (
    b"",
    b"\0" * 4096,
    b"\xff" * 100,
    b"hello",
    b"\xef\xbb\xbf",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[1, 2",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"9" * 10_000,
    b"1e999",
    b"NaN",
    b'[{"file_path": "\\ud800", "id": 1}]',
    b'[{"file_path": "a\\u0000b", "id": 99999999999999999999999999}]',
    b'{"images": 3, "annotations": {}}',
    b'{"images": [[]], "annotations": [null]}',
    b'{"images": [{"id": []}], "annotations": []}',
    b'{"images": [{"id": 1, "camera_id": "x"}], "annotations": [{"image_id": 1, "track_id": 1}]}',
    b'[{"train": {}, "test": [[]]}]',
    b'{"decision": "same", "tracklets": [1, 1e400]}\n',
    b'{"decision": "same", "tracklets": [1, 99999999999999999999]}\n',
    b"PK\x03\x04",
    b"PK\x05\x06" + b"\0" * 18,
    b"\x80\x02}q\x00.",
    b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n",
    b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
    b"\x93NUMPY\x01\x00\x10\x00{'descr': '''x\n",
    b"PAR1" + b"\xff" * 64 + b"\xff\xff\xff\x7fPAR1",
    (1 << 62).to_bytes(8, "little") + b"{}",
    (100_000_000).to_bytes(8, "little") + b"{" * 64,
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><net name="&c;"></net>',
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x9c@\x00\x00\x9c@\x08\x02\x00\x00\x00",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\n",
)


def damaged(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`NASTY`, and then damages of one file: bits, cuts, insertions, copies, and numbers of headers."""
    yield from NASTY[:: 1 if count > 100 else 2]
    rng = np.random.default_rng(seed)
    extremes = [number.to_bytes(8, order) for number in (0, 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1) for order in
                ("little", "big")]  # fmt: skip
    for number in range(count):
        out = bytearray(data)
        at, size = int(rng.integers(len(data))), int(rng.integers(1, 64))
        match number % 6:
            case 0:  # bits
                for place in rng.integers(len(data), size=int(rng.integers(1, 8))):
                    out[place] ^= 1 << int(rng.integers(8))
            case 1:  # the end is missing
                del out[at:]
            case 2:  # strange bytes
                out[at:at] = rng.bytes(size)
            case 3:  # a piece twice
                out[at:at] = out[int(rng.integers(len(data))) :][:size]
            case 4:  # a piece is missing
                del out[at : at + size]
            case _:  # a number of the header, or of the end
                place = int(rng.integers(min(512, len(data))))
                place = place if rng.random() < 0.7 else len(data) - place
                width = int(rng.choice([1, 2, 4, 8]))
                out[place : place + width] = extremes[int(rng.integers(len(extremes)))][:width]
        yield bytes(out)


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(name: str, count: int) -> list[str]:
    """What is wrong with a reader: a line for each file that ended in anything but a result or one line."""
    wrong = []
    with tempfile.TemporaryDirectory() as place:
        path = READERS[name].write(Path(place))
        READERS[name].read(path)  # whole, it can be read
        for case, data in enumerate(damaged(path.read_bytes(), count, seed=len(name))):
            print(f"{name}, case {case}", flush=True)  # noqa: T201
            path.write_bytes(data)
            before = _resident_mb()
            signal.alarm(SECONDS)
            try:
                READERS[name].read(path)
            except ReappearError as error:
                if "\n" in str(error) or not str(error):
                    wrong.append(f"{name}, case {case}: not one line: {str(error)!r:.300}")
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                wrong.append(
                    f"{name}, case {case}: {type(error).__name__} {error!s:.200} ({last.filename}:{last.lineno})"
                )
            signal.alarm(0)
            if _resident_mb() - before > MEGABYTES:
                wrong.append(f"{name}, case {case}: {_resident_mb() - before:.0f} MB")
    return wrong


def main(count: int, *names: str) -> int:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for name in names:  # what is imported now is not counted as memory of a file
        with tempfile.TemporaryDirectory() as place:
            READERS[name].read(READERS[name].write(Path(place)))
    resource.setrlimit(resource.RLIMIT_DATA, (ALLOCATION, ALLOCATION))
    wrong = [line for name in names for line in fuzz(name, count)]
    print("\n".join(["", *wrong]))  # noqa: T201
    return len(wrong)


if __name__ == "__main__":
    sys.exit(min(1, main(int(sys.argv[1]), *sys.argv[2:])))
