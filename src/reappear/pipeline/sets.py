"""Data sets as users name them: a folder, LAYOUT:FOLDER, or a layout with options."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reappear.core import ImageTable, InputError, SettingsError
from reappear.data import OWN_LABELS, READERS, locate, options_of, read, recognise

from .labels import identities_folder
from .workspace import Workspace

_MARKET_FOLDERS = ("query", "bounding_box_test")
_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class NamedSet:
    """A data set that was found on disk.

    Attributes:
        layout: One of `reappear.data.READERS`.
        root: Its folder or file.
        options: Those of its layout that were given.
    """

    layout: str
    root: Path
    options: dict[str, object]

    @property
    def name(self) -> str:
        """The name of its folder, and the options of its layout."""
        return ",".join([self.root.name, *(f"{key}={value}" for key, value in self.options.items())])

    def read(self) -> ImageTable:
        """Its images with their labels.

        Raises:
            InputError: It cannot be read.
            SettingsError: The layout has no such option.
            WorkspaceError: The identities of a workspace are of other crops.
        """
        labels = str(self.options.get("identities", options_of(self.layout).get("identities")))
        if self.layout == "workspace" and labels not in OWN_LABELS:
            identities_folder(Workspace(self.root), labels)
        return read(self.layout, self.root, **self.options)


def find_set(data: str | Path, *, or_else: str = "") -> NamedSet:
    """The set that a user names.

    Args:
        data: A folder, LAYOUT:FOLDER, or a layout whose set `REAPPEAR_DATASETS` leads to; a layout may be followed by
            its options: `ilids_vid,split=3,test=last:FOLDER`.
        or_else: What else could be given, for messages: begins with ", or".

    Raises:
        InputError: There is none, or its layout is not recognised.
        SettingsError: An option is no KEY=VALUE, or no number where it must be.
    """
    if not Path(data).exists():
        named, colon, rest = str(data).partition(":")
        layout, *options = named.split(",")
        if (colon and rest) or layout in READERS:
            root = locate(layout, rest or None).resolve()
            return NamedSet(layout, root, dict(_option(layout, text) for text in options))
        raise InputError(f"{data} does not exist; give the folder of a data set{or_else}")
    return NamedSet(*_recognised(Path(data), or_else), {})


def people_at(table: ImageTable, positions: str) -> np.ndarray:
    """Mask of the images of the people at some positions.

    Args:
        table: Images; junk (-1) is no person.
        positions: "A-B": positions among all people, sorted by number, from 1.

    Raises:
        SettingsError: There are no such positions.
    """
    people = np.unique(table.identity[table.identity >= 0])
    named = _RANGE.fullmatch(positions)
    first, last = (int(part) for part in named.groups()) if named else (0, 0)
    if not 1 <= first <= last <= len(people):
        raise SettingsError(f"identities: must be A-B, positions of people from 1 to {len(people)}, got {positions!r}")
    return np.isin(table.identity, people[first - 1 : last])


def _option(layout: str, text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"options of a layout are written {layout},KEY=VALUE:FOLDER; got {text!r}")
    if not isinstance(options_of(layout).get(key), int):
        return key, value
    if not value.isdecimal():
        raise SettingsError(f"{key}: must be a whole number from 0, got {value!r}")
    return key, int(value)


def _recognised(data: Path, or_else: str) -> tuple[str, Path]:
    root = data.resolve()
    fitting = recognise(root)
    if any((root / folder).is_dir() for folder in _MARKET_FOLDERS) and "market1501" not in fitting:
        return "market1501", root  # half of it: the error then names the missing folder
    if not fitting:
        raise InputError(
            f"{data} has an unrecognised data set layout; give the folder, LAYOUT:FOLDER with one of "
            f"{', '.join(READERS)}{or_else}"
        )
    if len(fitting) > 1:
        raise InputError(f"{data} matches several layouts; give one: {', '.join(f'{n}:{data}' for n in fitting)}")
    return fitting[0], root
