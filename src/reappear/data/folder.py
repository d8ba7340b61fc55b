"""The simplest layout: one folder of images for each person."""

from pathlib import Path

import numpy as np

from reappear.core import ImageTable, InputError

from .files import IMAGE_ENDINGS, list_files


def read_folder(root: Path) -> ImageTable:
    """Reads `root/PERSON/*.jpg`; people are numbered from 0 in the order of their folders' names.

    All images are of the split "train"; camera and sequence are -1, unknown. Files that are no images are skipped.

    Raises:
        InputError: There are no folders, or no images in them.
    """
    folders = sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    path: list[str] = []
    identity: list[int] = []
    skipped: dict[str, str] = {}
    for file in list_files(root):
        skipped[str(file)] = "not in the folder of a person"
    for folder in folders:
        images = []
        for file in list_files(folder):
            if file.suffix.lower() in IMAGE_ENDINGS:
                images.append(str(file))
            else:
                skipped[str(file)] = "not an image file"
        if images:
            identity += [identity[-1] + 1 if identity else 0] * len(images)
            path += images
        else:
            skipped[str(folder)] = "no image in it"
    if not path:
        raise InputError(f"{root} holds no folders with images; a set of this kind has one folder for each person")
    unknown = np.full(len(path), -1, np.int64)
    return ImageTable(
        np.array(path), np.array(identity, np.int64), unknown, unknown, np.full(len(path), "train"), skipped
    )
