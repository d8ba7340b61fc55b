"""Small sets in the real layouts, written by the tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def fill(root: Path, names) -> None:
    """Empty files."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def draw(path: Path, seed: int = 0, size=(8, 16), color=None) -> None:
    """An image in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = color or tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())
    Image.new("RGB", size, color).save(path)


def market1501(root: Path) -> None:
    fill(
        root,
        [
            "bounding_box_train/0002_c1s1_000451_03.jpg",
            "bounding_box_train/0002_c2s1_000301_01.jpg",
            "query/0001_c2s3_000000_00.jpg",
            "bounding_box_test/-1_c3s1_000000_00.jpg",
            "bounding_box_test/0000_c4s2_000000_00.jpg",
            "bounding_box_test/0001_c6s3_000000_00.jpg",
            "gt_bbox/0001_c1s1_001051_00.jpg",
            "bounding_box_test/Thumbs.db",
            "readme.txt",
        ],
    )


def msmt17(root: Path, train="train", test="test") -> None:
    lists = {
        "list_train.txt": [(train, "0000/0000_000_01_0303morning_0015_0.jpg", 0)],
        "list_val.txt": [(train, "0001/0001_004_14_0302noon_0102_1.jpg", 1)],
        "list_query.txt": [(test, "0000/0000_001_02_0303afternoon_0350_2.jpg", 0)],
        "list_gallery.txt": [
            (test, "0000/0000_002_09_0303morning_0351_0_ex.jpg", 0),
            (test, "0005/0005_000_15_0303noon_0001_0.jpg", 5),
        ],
    }
    for name, rows in lists.items():
        fill(root, [f"{folder}/{path}" for folder, path, _ in rows])
        (root / name).write_text("".join(f"{path} {person}\n" for _, path, person in rows))


def cuhk03_np(root: Path) -> None:
    for half, count in (("detected", 1), ("labeled", 2)):
        fill(root, [f"{half}/bounding_box_train/0001_c{c}_{n}.png" for c in (1, 2) for n in range(count)])
        fill(root, [f"{half}/query/0002_c1_1.png", f"{half}/bounding_box_test/0002_c2_1.png"])


def cuhk01(root: Path) -> None:
    fill(root, [f"campus/{person:04d}{image:03d}.png" for person in (1, 2) for image in (1, 2, 3, 4)])


def mars(root: Path) -> None:
    """Training: one tracklet; test: junk, a distractor, and a person in two cameras, the second one asked for."""
    train = ["0001C1T0001F001.jpg", "0001C1T0001F002.jpg"]
    test = ["00-1C1T0001F001.jpg", "0000C2T0001F001.jpg", "0002C3T0001F001.jpg", "0002C5T0002F001.jpg"]
    fill(root, [f"bbox_train/{name[:4]}/{name}" for name in train])
    fill(root, [f"bbox_test/{name[:4]}/{name}" for name in test])
    (root / "info").mkdir()
    (root / "info" / "train_name.txt").write_text("\n".join(train) + "\n")
    (root / "info" / "test_name.txt").write_text("\n".join(test) + "\n")
    savemat(root / "info" / "tracks_train_info.mat", {"track_train_info": [[1.0, 2.0, 1.0, 1.0]]})
    tracks = [[1, 1, -1, 1], [2, 2, 0, 2], [3, 3, 2, 3], [4, 4, 2, 5]]
    savemat(root / "info" / "tracks_test_info.mat", {"track_test_info": np.array(tracks, float)})
    savemat(root / "info" / "query_IDX.mat", {"query_IDX": [[4]]})


def ilids_vid(root: Path) -> None:
    """Four people; the first row of splits is 3 1 | 4 2 as places in the sorted list of folders."""
    people = ("person001", "person002", "person009", "person319")
    for camera in (1, 2):
        fill(
            root,
            [
                f"i-LIDS-VID/sequences/cam{camera}/{person}/cam{camera}_{person}_{frame:05d}.png"
                for person in people
                for frame in (10, 2)
            ],
        )
    (root / "train-test people splits").mkdir()
    splits = np.array([[3, 1, 4, 2], [1, 2, 3, 4]], np.uint16)
    savemat(root / "train-test people splits" / "train_test_splits_ilidsvid.mat", {"ls_set": splits})


def prid2011(root: Path) -> None:
    for camera, people in (("a", (1, 2, 3, 300)), ("b", (1, 2, 3, 300))):
        fill(root, [f"prid_2011/multi_shot/cam_{camera}/person_{p:04d}/{f:04d}.png" for p in people for f in (1, 2)])
    splits = [{"train": ["person_0001"], "test": ["person_0002"]}, {"train": ["person_0002"], "test": ["person_0001"]}]
    (root / "splits_prid2011.json").write_text(json.dumps(splits))


def lupersonnl(root: Path) -> None:
    fill(
        root,
        [
            "de/berlin/aaaa/000001_0000007_00.jpg",
            "de/berlin/aaaa/000001_0000009_01.jpg",
            "de/berlin/aaaa/000002_0000007_01.jpg",
            "fr/paris/bbbb/000001_0000000_00.jpg",
        ],
    )


def synth_pedes(root: Path) -> None:
    entries = [
        {
            "id": person,
            "file_path": f"Part1/{person}/{n}.jpg",
            "attributes": ["man,short hair"],
            "captions": ["a {man}"],
        }
        for person in (0, 7)
        for n in (0, 1)
    ]
    fill(root, [entry["file_path"] for entry in entries])
    (root / "synthpedes_dataset.json").write_text(json.dumps(entries))


def cion_al(root: Path) -> None:
    entries = [{"file_path": f"sec0/{n}.jpg", "id": person} for n, person in enumerate((1, 1, 2))]
    fill(root, [entry["file_path"] for entry in entries])
    (root / "cional_annos.json").write_text(json.dumps(entries, indent=1))


def folder(root: Path) -> None:
    fill(root, ["ann/b.jpg", "ann/a.png", "bob/x.jpeg"])


TREES = {
    "market1501": market1501,
    "msmt17": msmt17,
    "cuhk03_np": cuhk03_np,
    "cuhk01": cuhk01,
    "mars": mars,
    "ilids_vid": ilids_vid,
    "prid2011": prid2011,
    "lupersonnl": lupersonnl,
    "synth_pedes": synth_pedes,
    "cion_al": cion_al,
    "folder": folder,
}


def rows(table, root: Path, *columns: str):
    """Path below `root` and the named columns, row by row."""
    path = [str(Path(path).relative_to(root)) for path in table.path]
    return list(zip(path, *(getattr(table, name).tolist() for name in columns), strict=True))
