"""Holds a copy of a data set against what its authors published."""

import os
from collections import Counter
from concurrent.futures import as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from reappear.core import SILENT, ImageTable, InputError, Progress, counted, process_pool

from .images import image_size, read_image
from .layout import Counts, Layout

_COUNTED = ("images", "identities", "cameras", "tracklets", "junk", "distractors")
_PIECE = 2048


@dataclass(frozen=True)
class Line:
    """One count, beside the published one.

    Attributes:
        split: A split, or several joined by "+".
        what: What is counted: a field of `Counts`.
        found: How many there are.
        published: How many there should be.
    """

    split: str
    what: str
    found: int
    published: int

    @property
    def ok(self) -> bool:
        """Whether both are the same."""
        return self.found == self.published

    def status(self) -> str:
        """What is off, in words; "ok" if nothing."""
        if self.ok:
            return "ok"
        off = self.found - self.published
        return f"{-off:,} missing" if off < 0 else f"{off:,} too many"


@dataclass(frozen=True)
class Check:
    """What became of a check.

    Attributes:
        lines: Counts beside the published ones.
        missing: What is not there, each in a sentence.
        skipped: Reason → how many files were left out for it.
        unreadable: Path → why it is no whole image; empty where images were not looked into.
    """

    lines: list[Line]
    missing: list[str]
    skipped: dict[str, int]
    unreadable: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether all that was published is there, and can be read as far as it was looked into."""
        return all(line.ok for line in self.lines) and not self.missing and not self.unreadable

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "complete": self.complete,
            "counts": [
                {"split": x.split, "what": x.what, "found": x.found, "published": x.published} for x in self.lines
            ],
            "missing": self.missing,
            "skipped": self.skipped,
            "unreadable": self.unreadable,
        }


def check(table: ImageTable, layout: Layout, root: Path, *, images: bool = False, progress: Progress = SILENT) -> Check:
    """Compares the counts of `table` with the published ones, and says what is missing.

    Args:
        table: The set as it was read.
        layout: What is known of it.
        root: Where it lies, for the messages.
        images: Whether to decode each image to its end.
        progress: Told of the images.
    """
    lines: list[Line] = []
    missing: list[str] = []
    for split, published in layout.published.items():
        mine = np.isin(table.split, split.split("+"))
        found = count(table, mine, layout)
        lines += [
            Line(split, what, getattr(found, what), getattr(published, what))
            for what in _COUNTED
            if getattr(published, what) is not None
        ]
        if not mine.any():
            missing.append(f"{split}: nothing there; it comes from {root / layout.places.get(split, '.')}")
        elif split in layout.people:
            absent = sorted(set(layout.people[split]) - set(table.identity[mine].tolist()))
            if absent:
                missing.append(f"{split}: {counted(len(absent), 'person')}, numbers {_ranges(absent)}")
    unreadable = scan(table, progress=progress) if images else {}
    return Check(lines, missing, dict(Counter(table.skipped.values())), unreadable)


def count(table: ImageTable, mine: Bool[np.ndarray, " n"], layout: Layout) -> Counts:
    """How much there is in the rows `mine`."""
    identity, camera, sequence = table.identity[mine], table.camera[mine], table.sequence[mine]
    junk = identity < 0
    extra = np.zeros(len(identity), bool)
    if layout.distractor is not None:
        extra = (identity == layout.distractor) & (table.split[mine] == "gallery")
    thing: Int[np.ndarray, " n"] = sequence if layout.video else np.arange(len(identity))
    return Counts(
        images=len(identity),
        identities=len(np.unique(identity[~junk & ~extra])),
        cameras=len(np.unique(camera[camera >= 0])),
        tracklets=len(np.unique(sequence[sequence >= 0])),
        junk=len(np.unique(thing[junk])),
        distractors=len(np.unique(thing[extra])),
    )


def scan(table: ImageTable, *, progress: Progress = SILENT, workers: int = 0) -> dict[str, str]:
    """Decodes every image to its end: path → why it cannot be. Several processes share the work."""
    paths = table.path.tolist()
    pieces = [paths[begin : begin + _PIECE] for begin in range(0, len(paths), _PIECE)]
    workers = min(workers or len(os.sched_getaffinity(0)), len(pieces))
    found: dict[str, str] = {}
    with progress.task("decoding", len(paths), "image") as tick:
        if workers <= 1:
            for piece in pieces:
                found |= _damaged(piece)
                tick(len(piece))
            return found
        with process_pool(workers) as pool:
            jobs = {pool.submit(_damaged, piece): len(piece) for piece in pieces}
            for job in as_completed(jobs):
                found |= job.result()
                tick(jobs[job])
    return dict(sorted(found.items()))


def _damaged(paths: list[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    for path in paths:
        try:
            image_size(read_image(path))
        except InputError as error:
            out[path] = str(error)
    return out


def _ranges(numbers: list[int]) -> str:
    """Whole numbers in rising order as ranges, at most a handful of them.

    >>> _ranges([1, 2, 3, 7, 9, 10])
    '1-3, 7, 9-10'
    """
    cuts = [0, *(i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1), len(numbers)]
    runs = [(numbers[a], numbers[b - 1]) for a, b in pairwise(cuts)]
    ranges = [str(a) if a == b else f"{a}-{b}" for a, b in runs]
    return ", ".join(ranges[:8]) + (f" and {counted(len(ranges) - 8, 'more range')}" if len(ranges) > 8 else "")
