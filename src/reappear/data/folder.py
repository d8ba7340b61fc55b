"""The simplest layout: one folder of images for each person."""

from pathlib import Path

from reappear.core import ImageTable, InputError

from .files import is_image, list_files, list_folders
from .layout import Layout
from .rows import Rows


def read_folder(root: Path) -> ImageTable:
    """Reads `root/PERSON/*.jpg`; people are numbered from 0 in the order of their folders' names, which `names` holds.

    The images of a folder `-1` are junk, as everywhere; any other name, also `0000`, is a person's.
    All images are of the split "train"; camera and sequence are -1, unknown. Files that are no images are skipped.

    Raises:
        InputError: There are no folders, or no images in them.
    """
    rows = Rows()
    names: list[str] = []
    for file in list_files(root):
        rows.skip(str(file), "not in the folder of a person")
    for folder in list_folders(root):
        before, junk = len(rows), folder.name == "-1"
        for file in list_files(folder):
            if is_image(file):
                rows.add(str(file), identity=-1 if junk else len(names))
            else:
                rows.skip(str(file), "not an image file")
        if len(rows) > before and not junk:
            names.append(folder.name)
        elif len(rows) == before:
            rows.skip(str(folder), "no image in it")
    if not len(rows):
        raise InputError(f"{root} holds no folders with images; a set of this kind has one folder for each person")
    return rows.table(names)


def _matches(root: Path) -> bool:
    return any(is_image(file) for folder in list_folders(root) for file in _listed(folder)[:1])


def _listed(folder: Path) -> list[Path]:
    try:
        return list_files(folder)
    except OSError:  # reading the set says so
        return []


FOLDER = Layout(read=read_folder, matches=_matches, description="one folder of images for each person: PERSON/*.jpg")
