"""Data set layouts: reader, detection and published counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reappear.core import ImageTable


@dataclass(frozen=True)
class Counts:
    """How much there is of a part of a set; None = not published, or not a thing of this set.

    Attributes:
        images: Files, junk and distractors included.
        identities: People who are asked for or trained on: neither junk nor distractors.
        cameras: Cameras that filmed them.
        tracklets: Sequences, of sets of videos; junk and distractors included.
        junk: Images, or tracklets of sets of videos, that no protocol looks at.
        distractors: Images of people that match no query.
    """

    images: int | None = None
    identities: int | None = None
    cameras: int | None = None
    tracklets: int | None = None
    junk: int | None = None
    distractors: int | None = None


@dataclass(frozen=True)
class Layout:
    """One way in which a set lies on disk.

    Attributes:
        read: From its folder, or file, to its images. More arguments are options of the set, by keyword.
        matches: Whether a folder or file looks like it. Used to find the set below a folder, and to detect the layout.
        description: One line about the set.
        folders: Where people keep it below the folder that holds their sets.
        published: Split, or several joined by "+", → what its authors published.
        places: Split → the file or folder that it comes from.
        people: Split → the numbers of its people, where they are known, to name who is missing.
        distractor: Identity number of distractors: people that match no query.
        video: Whether a sequence is a tracklet of many images, named by `ImageTable.sequence`.
        full_options: Options with which all of the set is read, whatever its splits.
    """

    read: Callable[..., ImageTable]
    matches: Callable[[Path], bool]
    description: str
    folders: tuple[str, ...] = ()
    published: Mapping[str, Counts] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    people: Mapping[str, range] = field(default_factory=dict)
    distractor: int | None = None
    video: bool = False
    full_options: Mapping[str, object] = field(default_factory=dict)
