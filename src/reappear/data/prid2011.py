"""PRID 2011 (Hirzer et al. 2011), the part with sequences: 200 people in both of two cameras.

`prid_2011/multi_shot/cam_{a,b}/person_NNNN/*.png`; `splits_prid2011.json`, which torchreid made, has ten random halves
of the 178 people whose sequences are long enough. People above number 200 are different ones in the two cameras.
"""

from pathlib import Path

from reappear.core import ImageTable, InputError, Split

from .files import is_image, list_files, list_folders
from .ilids_vid import split_of
from .layout import Counts, Layout
from .rows import Rows

_SHARED = 200


def read_prid2011(root: Path, *, split: int | None = 0) -> ImageTable:
    """The people of one split; queries are the test people in camera a (1), the gallery those in camera b (2).

    The sequence is twice the person's number, plus the camera, less 1.

    Args:
        root: The set.
        split: Which of the ten splits, from 0; None = all 200 people, of split "train".

    Raises:
        InputError: There are no sequences, or no file of splits.
        SettingsError: There is no such split.
    """
    base = root / "prid_2011" if (root / "prid_2011").is_dir() else root
    cameras = {1: base / "multi_shot" / "cam_a", 2: base / "multi_shot" / "cam_b"}
    if not all(folder.is_dir() for folder in cameras.values()):
        raise InputError(f"{root} holds no multi_shot/cam_a and cam_b of PRID 2011, nor prid_2011/multi_shot")
    chosen: dict[str, str] | None = None
    if split is not None:
        path = next((f for f in (root / "splits_prid2011.json", base / "splits_prid2011.json") if f.is_file()), None)
        if path is None:
            raise InputError(f"{root / 'splits_prid2011.json'} is missing; copy it, or read with split=None")
        chosen = {name: part for part, names in split_of(path, split).items() for name in names}
    rows = Rows()
    for camera, folder in cameras.items():
        for person in list_folders(folder):
            number = person.name.removeprefix("person_")
            if not number.isdecimal():
                rows.skip(str(person), "not named as in PRID 2011, person_0001")
            elif int(number) > _SHARED:
                rows.skip(str(person), "a person of one camera alone")
            elif chosen is not None and person.name not in chosen:
                rows.skip(str(person), "a person of neither half of the split")
            else:
                of: Split = "train"
                if chosen is not None and chosen[person.name] == "test":
                    of = "query" if camera == 1 else "gallery"
                for frame, path in enumerate(list_files(person)):
                    if is_image(path):
                        sequence = 2 * int(number) + camera - 1
                        rows.add(
                            str(path), identity=int(number), camera=camera, sequence=sequence, split=of, frame=frame
                        )
                    else:
                        rows.skip(str(path), "not an image file")
    if not len(rows):
        raise InputError(f"{base / 'multi_shot'} holds no images of people 1 to {_SHARED}")
    return rows.table()


def _matches(root: Path) -> bool:
    return any((base / "multi_shot" / "cam_a").is_dir() for base in (root, root / "prid_2011"))


PRID2011 = Layout(
    read=read_prid2011,
    matches=_matches,
    description="PRID 2011: multi_shot/cam_{a,b}/person_NNNN, with splits_prid2011.json",
    folders=("prid2011", "PRID2011", "prid_2011", "prid"),
    published={"train+query+gallery": Counts(identities=178, cameras=2, tracklets=356)},
    places={"train+query+gallery": "multi_shot"},
    video=True,
    full_options={"split": None},
)
