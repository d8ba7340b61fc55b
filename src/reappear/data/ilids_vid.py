"""iLIDS-VID (Wang et al. 2014): 300 people, one sequence each in two cameras.

`i-LIDS-VID/sequences/camC/personNNN/*.png`, and ten random splits into halves: the MATLAB file of the authors, whose
numbers are places (from 1) in the sorted list of people, or `splits.json`, ten of `{"train": [...], "test": [...]}`.
"""

from collections.abc import Sequence
from pathlib import Path

from reappear.core import ImageTable, InputError, SettingsError, Split, counted, read_json

from .files import is_image, list_files, list_folders
from .layout import Counts, Layout
from .mat import read_mat
from .rows import Rows

_MATLAB = Path("train-test people splits") / "train_test_splits_ilidsvid.mat"


def read_ilids_vid(root: Path, *, split: int | None = 0, test: str = "first") -> ImageTable:
    """All images of all sequences; queries are the test people in camera 1, the gallery those in camera 2.

    The sequence is twice the place of the person in the sorted list, plus the camera, less 1.

    Args:
        root: The set.
        split: Which of the ten splits, from 0; None = everybody is of split "train".
        test: Which half of a row of the MATLAB file is tested on. Published code disagrees: "first" as torchreid has
            it, "last" as GRL and TF-CLIP have it. `splits.json` says it itself.

    Raises:
        InputError: There are no sequences, or no file of splits.
        SettingsError: There is no such split or half.
    """
    if test not in ("first", "last"):
        raise SettingsError(f"test: must be first or last, got {test!r}")
    base = root / "i-LIDS-VID" if (root / "i-LIDS-VID").is_dir() else root
    cameras = {camera: {f.name: f for f in list_folders(base / "sequences" / f"cam{camera}")} for camera in (1, 2)}
    people = sorted(cameras[1].keys() | cameras[2].keys())
    if not people:
        raise InputError(f"{root} holds no sequences/cam1/person001 of iLIDS-VID, nor i-LIDS-VID/sequences")
    tested = set() if split is None else _tested(root, people, split, test)
    rows = Rows()
    for place, person in enumerate(people):
        number = person.removeprefix("person")
        if not number.isdecimal():
            rows.skip(str(cameras[1].get(person) or cameras[2][person]), "not named as in iLIDS-VID, person001")
            continue
        for camera, folders in cameras.items():
            if person not in folders:
                rows.skip(f"{base}/sequences/cam{camera}/{person}", "a person of one camera alone")
                continue
            sequence = 2 * place + camera - 1
            for frame, path in enumerate(list_files(folders[person])):
                if is_image(path):
                    of: Split = "train" if person not in tested else "query" if camera == 1 else "gallery"
                    rows.add(str(path), identity=int(number), camera=camera, sequence=sequence, split=of, frame=frame)
                else:
                    rows.skip(str(path), "not an image file")
    if not len(rows):
        raise InputError(f"{base / 'sequences'} holds no images")
    return rows.table()


def _tested(root: Path, people: Sequence[str], split: int, test: str) -> set[str]:
    listed = [path for path in (root / "splits.json", root / "splits_ilidsvid.json") if path.is_file()]
    if listed:
        return set(split_of(listed[0], split)["test"])
    matrix = read_mat(next((f for f in (root / _MATLAB, root / _MATLAB.name) if f.is_file()), root / _MATLAB), "ls_set")
    if not 0 <= split < len(matrix):
        raise SettingsError(f"split: must be one of 0..{len(matrix) - 1}, or none, got {split}")
    row = matrix[split]
    if sorted(row.tolist()) != list(range(1, len(people) + 1)):
        raise InputError(
            f"{root / _MATLAB} splits {counted(len(row), 'person')}, here: {len(people)}; copy all sequences, "
            f"or read with split=None"
        )
    half = len(row) // 2
    return {people[place - 1] for place in (row[:half] if test == "first" else row[half:]).tolist()}


def split_of(path: Path, split: int) -> dict[str, list[str]]:
    """One of the splits of a JSON file: `{"train": [folder, ...], "test": [folder, ...]}`."""
    splits = read_json(path)
    if not isinstance(splits, list) or not all(
        isinstance(one, dict) and all(_are_names(one.get(part)) for part in ("train", "test")) for one in splits
    ):
        raise InputError(f"{path} must be a list of objects with train and test, which name folders")
    if not 0 <= split < len(splits):
        raise SettingsError(f"split: must be one of 0..{len(splits) - 1}, or none, got {split}")
    return {part: splits[split][part] for part in ("train", "test")}


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _matches(root: Path) -> bool:
    return any((base / "sequences" / "cam1").is_dir() for base in (root, root / "i-LIDS-VID"))


ILIDS_VID = Layout(
    read=read_ilids_vid,
    matches=_matches,
    description="iLIDS-VID: i-LIDS-VID/sequences/cam{1,2}/personNNN, with the authors' ten splits",
    folders=("ilids-vid", "iLIDS-VID", "ilids_vid", "i-LIDS-VID", "ilidsvid"),
    published={"train+query+gallery": Counts(identities=300, cameras=2, tracklets=600)},
    places={"train+query+gallery": "sequences"},
    video=True,
    full_options={"split": None},
)
