"""Readers of data sets. A new one is one file with its `Layout`, named here."""

import inspect
import os
from pathlib import Path

from reappear.core import ImageTable, InputError, SettingsError, unknown_name

from .annotations import CION_AL, SYNTH_PEDES
from .check import Check, check, scan
from .cuhk01 import CUHK01
from .cuhk03_np import CUHK03_NP, CUHK03_NP_LABELED
from .exported import COCO, PARQUET, WEBDATASET
from .folder import FOLDER
from .ilids_vid import ILIDS_VID
from .images import UNREADABLE, Images, container, decode_image, ending, image_size, open_image, read_image
from .labels import TABLE_ENDINGS, Codes, column_names, read_labels
from .layout import Counts, Layout
from .lupersonnl import LUPERSONNL
from .market1501 import MARKET1501
from .mars import MARS
from .msmt17 import MSMT17
from .prid2011 import PRID2011
from .table import TABLE
from .workspace import OWN_LABELS, WORKSPACE, read_crops
from .writers import WRITERS, Crop, Writer

READERS: dict[str, Layout] = {
    "market1501": MARKET1501,
    "msmt17": MSMT17,
    "cuhk03_np": CUHK03_NP,
    "cuhk03_np_labeled": CUHK03_NP_LABELED,
    "cuhk01": CUHK01,
    "mars": MARS,
    "ilids_vid": ILIDS_VID,
    "prid2011": PRID2011,
    "lupersonnl": LUPERSONNL,
    "synth_pedes": SYNTH_PEDES,
    "cion_al": CION_AL,
    "workspace": WORKSPACE,
    "coco": COCO,
    "parquet": PARQUET,
    "webdataset": WEBDATASET,
    "folder": FOLDER,
    "table": TABLE,
}

__all__ = [
    "OWN_LABELS",
    "READERS",
    "TABLE_ENDINGS",
    "UNREADABLE",
    "WRITERS",
    "Check",
    "Codes",
    "Counts",
    "Crop",
    "Images",
    "Layout",
    "Writer",
    "check",
    "column_names",
    "container",
    "decode_image",
    "ending",
    "image_size",
    "locate",
    "open_image",
    "options_of",
    "read",
    "read_crops",
    "read_image",
    "read_labels",
    "recognise",
    "scan",
]

DATASETS = "REAPPEAR_DATASETS"


def read(name: str, root: Path | str | None = None, **options: object) -> ImageTable:
    """Reads a data set.

    Args:
        name: Its layout, one of `READERS`.
        root: Its folder or file, or a folder that holds it under one of the names that people use; where
            `REAPPEAR_DATASETS` says, or `datasets`, if not given.
        **options: Of this layout, such as `split=3` of iLIDS-VID and PRID 2011.

    Raises:
        InputError: There is no such layout or folder, or the folder does not have this layout.
        SettingsError: The layout has no such option, or not with this value.
    """
    known = options_of(name)
    for key in options:
        if key not in known:
            raise SettingsError(f"{name} has no option {key}; it has {', '.join(known) or 'none'}")
    return find(name).read(locate(name, root), **options)


def options_of(name: str) -> dict[str, object]:
    """The options of a layout: name → what it is if not given.

    Raises:
        InputError: There is no such layout.
    """
    layout = find(name)
    fixed = {"root", *getattr(layout.read, "keywords", {})}
    parameters = inspect.signature(layout.read).parameters.values()
    return {of.name: of.default for of in parameters if of.name not in fixed}


def find(name: str) -> Layout:
    """The layout of this name.

    Raises:
        InputError: There is none; the message names the nearest.
    """
    if name not in READERS:
        raise InputError(unknown_name("data set layout", name, list(READERS)))
    return READERS[name]


def locate(name: str, root: Path | str | None = None) -> Path:
    """The folder or file that a set lies in: `root`, or below it under one of the names that people use.

    Raises:
        InputError: There is no such layout, or nothing at `root`.
    """
    layout = find(name)
    asked = Path(root if root is not None else os.environ.get(DATASETS, "datasets"))
    if root is None and not asked.is_dir():
        raise InputError(f"{asked} is not a folder; say where {name} is, or set {DATASETS} to the folder of your sets")
    if not asked.is_dir() and not (asked.exists() and layout.matches(asked)):
        raise InputError(f"{asked} is not a folder; give the folder that holds the data set")
    named = [place for folder in layout.folders if (place := asked / folder).is_dir()]
    return next((place for place in (asked, *named) if layout.matches(place)), named[0] if named else asked)


def recognise(root: Path) -> list[str]:
    """The layouts that a folder or file may have. Plain folders of people only where it is nothing more particular."""
    fitting = [name for name, layout in READERS.items() if name != "folder" and layout.matches(root)]
    return fitting or (["folder"] if root.is_dir() and FOLDER.matches(root) else [])
