"""Lists and annotations of others name files: only those inside the set's folder are read."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reappear.core import InputError
from reappear.data import read, read_image

NAMES = [
    "../secret.jpg",
    "../../secret.jpg",
    "sub/../../secret.jpg",
    "{root}/../secret.jpg",
    "out/secret.jpg",
    "link.jpg",
]
ODD = [
    "a\0b.jpg",
    "\ud800.jpg",
    "x" * 300 + ".jpg",
    "../" * 2000 + "etc/passwd",
    "loop/x.jpg",
    "",
    ".",
    "..",
    "zero.jpg/x",
]


def annotations(root: Path, names: list[str]) -> str:
    (root / "cional_annos.json").write_text(json.dumps([{"file_path": name, "id": 1} for name in names]))
    return "cion_al"


def synth_pedes(root: Path, names: list[str]) -> str:
    (root / "synthpedes_dataset.json").write_text(json.dumps([{"file_path": name, "id": 1} for name in names]))
    return "synth_pedes"


def coco(root: Path, names: list[str]) -> str:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    found = [{"image_id": i, "track_id": 1} for i in range(len(names))]
    (root / "annotations.json").write_text(json.dumps({"images": images, "annotations": found}))
    return "coco"


def table(root: Path, names: list[str]) -> str:
    kept = [name for name in names if name.isprintable() and "\ud800" not in name]
    (root / "t.csv").write_text("path,identity\n" + "".join(f"{name},1\n" for name in dict.fromkeys(kept)))
    return "table"


def msmt17(root: Path, names: list[str]) -> str:
    (root / "list_train.txt").write_text("".join(f"{name} 1\n" for name in names if "\ud800" not in name and name))
    (root / "train").symlink_to(".")  # the folder of images may be a link of the user's own
    return "msmt17"


def mars(root: Path, names: list[str]) -> str:
    names = [name.replace("secret", "a") for name in names if "\ud800" not in name and name]
    (root / "info").mkdir()
    (root / "bbox_train").symlink_to(".")
    (root / "info" / "train_name.txt").write_text("\n".join(names))
    tracks = np.array([[1.0, len(names), 1.0, 1.0]])
    savemat(root / "info" / "tracks_train_info.mat", {"track_train_info": tracks})
    return "mars"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set in `a/set` with one image, and an image beside it outside the set."""
    root = tmp_path / "a" / "set"
    (root / "sub").mkdir(parents=True)
    for path in (
        root / "inside.jpg",
        root / "insi" / "inside.jpg",
        tmp_path / "secret.jpg",
        tmp_path / "a" / "secret.jpg",
    ):
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 16)).save(path)
    (root / "out").symlink_to(tmp_path)
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "loop").symlink_to("loop")
    (root / "zero.jpg").symlink_to("/dev/zero")
    return root


@pytest.mark.parametrize("write", [annotations, synth_pedes, coco, table, msmt17, mars])
@pytest.mark.parametrize("names", [NAMES, ODD], ids=["outside", "odd"])
def test_files_outside_the_set_are_never_read(root: Path, write, names: list[str]) -> None:
    names = [name.format(root=root) for name in names]
    layout = write(root, ["inside.jpg", *names])
    found = read(layout, root)
    assert {Path(path).name for path in found.path} == {"inside.jpg"}
    assert all(Path(path).resolve().is_relative_to(root) for path in found.path)
    json.dumps(found.skipped).encode()
    for path in found.skipped:
        path.encode()  # as `skipped.parquet` needs it


@pytest.mark.parametrize("write", [annotations, synth_pedes, coco, table, msmt17, mars])
def test_set_with_only_outside_files_is_refused(root: Path, write) -> None:
    layout = write(root, ["../secret.jpg"])
    with pytest.raises(InputError, match="none of") as caught:
        read(layout, root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/dev/zero.tar@0+100", "pipe", "pipe.tar@0+5", "pipe.parquet@0", "folder"]
)
def test_images_are_regular_files(tmp_path: Path, path: str) -> None:
    for name in ("pipe", "pipe.tar", "pipe.parquet"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError):
        read_image(str(tmp_path / path))


def test_declared_size_in_a_tar_is_not_allocated(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 1024)
    for size in (10**12, 10**30):
        with pytest.raises(InputError, match="larger than"):
            read_image(f"{tmp_path}/a.tar@0+{size}")
    with pytest.raises(InputError):
        read_image(f"{tmp_path}/a.tar@{10**30}+5")


def test_integers_beyond_64_bits_are_skipped(root: Path) -> None:
    entries = [{"file_path": "inside.jpg", "id": 2**63}, {"file_path": "insi/inside.jpg", "id": 3}]
    (root / "cional_annos.json").write_text(json.dumps(entries))
    found = read("cion_al", root)
    assert found.identity.tolist() == [3]
    assert "64 bits" in next(iter(found.skipped.values()))
