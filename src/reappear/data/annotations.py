"""Sets that are one JSON array of objects with a path and a number: SYNTH-PEDES and CION-AL."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from reappear.core import ImageTable, InputError, counted, require_regular_file

from .files import Listing
from .layout import Counts, Layout
from .rows import Rows

_PIECE = 1 << 20  # characters read at a time
_LONGEST = 8 * _PIECE  # characters of one object
_CION_AL = ("cional_annos.json", "cinoal_annos.json")  # the public code has it misspelt in one place
_SYNTH_PEDES = ("synthpedes_dataset.json",)


def read_annotations(root: Path, *, files: tuple[str, ...]) -> ImageTable:
    """The images of `[{"file_path": ..., "id": ...}, ...]`, as split "train"; identities are as numbered there.

    Paths are relative to the folder of the JSON file, and may begin with its name. They must stay inside.

    Raises:
        InputError: The file is missing or no such JSON, or none of its images is there.
    """
    annotations = next((root / name for name in files if (root / name).is_file()), None)
    if annotations is None:
        raise InputError(f"{root / files[0]} is missing; it lists the images and who is on them")
    rows, listing = Rows(), Listing(root, annotations.name)
    above = f"{root.absolute().name}/"
    from_above: bool | None = None
    for number, entry in enumerate(json_objects(annotations)):
        path, person = entry.get("file_path"), entry.get("id")
        if not isinstance(path, str) or not isinstance(person, int) or isinstance(person, bool):
            raise InputError(f"{annotations}: entry {number} must have a file_path and a whole number id")
        if from_above is None:
            from_above = path.startswith(above) and bool(listing.problem(path))
        if from_above:
            path = path.removeprefix(above)
        rows.add_if(listing.problem(path), f"{root}/{path}", identity=person)
    if not len(rows):
        raise InputError(
            f"{annotations}: none of {counted(rows.skipped, 'image')} is there ({rows.reason()}); copy them beside it"
        )
    return rows.table()


def json_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of one JSON array, one at a time: the file may have millions.

    Raises:
        InputError: The file is not an array of objects.
    """
    require_regular_file(path)
    decoder, text, at, done = json.JSONDecoder(), "", 0, 0
    with path.open(encoding="utf-8") as file:

        def more() -> bool:
            nonlocal text, at
            piece = file.read(_PIECE)
            text, at = text[at:] + piece, 0
            return bool(piece)

        def next_sign() -> str:
            nonlocal at
            while True:
                while at < len(text) and text[at] in " \t\r\n,":
                    at += 1
                if at < len(text) or not more():
                    return text[at : at + 1]

        try:
            if next_sign() != "[":
                raise InputError(f"{path} must hold one JSON array of objects")
            at += 1
            while (sign := next_sign()) != "]":
                if sign != "{":
                    raise InputError(f"{path}: entry {done} is no object, or the file is cut off")
                while True:
                    try:
                        entry, at = decoder.raw_decode(text, at)
                        break
                    except RecursionError as error:
                        raise InputError(f"{path}: entry {done} is nested too deeply; check the file") from error
                    except ValueError as error:
                        if len(text) - at > _LONGEST or not more():
                            raise InputError(f"{path}: entry {done} is no JSON, or the file is cut off") from error
                yield entry
                done += 1
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text, as JSON is") from error


def _matches(root: Path, files: tuple[str, ...]) -> bool:
    return any((root / name).is_file() for name in files)


CION_AL = Layout(
    read=partial(read_annotations, files=_CION_AL),
    matches=partial(_matches, files=_CION_AL),
    description="CION-AL: cional_annos.json and the images it lists, sec0 to sec129",
    folders=("CION_AL", "cion_al", "CION-AL"),
    published={"train": Counts(images=3_898_086, identities=246_904)},
    places={"train": _CION_AL[0]},
)
SYNTH_PEDES = Layout(
    read=partial(read_annotations, files=_SYNTH_PEDES),
    matches=partial(_matches, files=_SYNTH_PEDES),
    description="SYNTH-PEDES: synthpedes_dataset.json and the images it lists, Part1 to Part11",
    folders=("SYNTH-PEDES", "SYNTH_PEDES", "synth_pedes", "synthpedes"),
    published={"train": Counts(images=4_791_711, identities=312_321)},
    places={"train": _SYNTH_PEDES[0]},
)
