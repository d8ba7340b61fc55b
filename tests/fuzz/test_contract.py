"""Files from outside reach a parser through its guard alone."""

import re
from pathlib import Path

import reappear

# What parses bytes → the files of `src/reappear` that may call it: guards, and readers of what is not from outside.
PARSERS: dict[str, set[str]] = {
    r"json\.loads?\(": {
        "core/files.py",
        "pipeline/record.py",  # marks of the step under way
        "train/metrics_log.py",
    },
    r"raw_decode\(": {"data/annotations.py"},
    r"map\(json\.loads": {"pipeline/export_data.py"},  # notes of the export under way
    r"np\.load\(|numpy\.load\(": {"store/arrays.py"},
    r"pq\.read_|pq\.ParquetFile\(": {"data/parquet.py", "store/tables.py"},
    r"Image\.open\(": {"data/images.py"},
    r"imdecode\(|imread\(": {"data/images.py"},
    r"torch\.load\(|pickle\.loads?\(|Unpickler\(": {"models/checkpoints/read.py"},
    r"safetensors\.\w+\.load|safe_open\(": {"models/checkpoints/read.py"},
    r"loadmat\(": set(),  # see data/mat.py
    r"tarfile\.open\(\w+(, \"r:?\")?\)": {"data/tar.py", "store/shards.py"},
    r"ZipFile\(": {"store/arrays.py", "models/checkpoints/read.py"},
    r"InferenceSession\(": {"models/extractors/onnx.py", "video/detectors/yolox.py"},
    r"core\.read_model\(": {"models/extractors/openvino.py"},
    r"\.open_csv\(|csv\.read_csv\(|csv\.reader\(": {"data/labels.py"},
    r"ElementTree|minidom|lxml|\beval\(|\bexec\(|hf_hub_|load_state_dict_from_url|urlopen|import requests": set(),
}


def test_parsers_are_called_only_inside_guards() -> None:
    root = Path(reappear.__file__).parent
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    texts = {file: re.sub(r"model\.eval\(|\.eval\(\)", "", text) for file, text in texts.items()}  # of torch
    for pattern, allowed in PARSERS.items():
        found = {file for file, text in texts.items() if re.search(pattern, text)}
        assert found <= allowed, f"{pattern}: read through the guard of its kind, and name it in tests/fuzz/readers.py"
        assert allowed <= found, f"{pattern}: no longer in {allowed - found}"
