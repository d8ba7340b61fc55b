from collections import Counter
from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import SupportsIndex


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """For each path its last part, with as many parent folders in front as tell it from the others; never a root.

    >>> distinct_names([Path("/home/anna/a/film"), Path("/home/anna/b/film"), Path("/home/anna/b/other")])
    ['a/film', 'b/film', 'other']
    """
    parts = [[part for part in path.parts if part != path.anchor] for path in paths]
    length = [1] * len(paths)
    while True:
        names = ["/".join(of[-n:]) for of, n in zip(parts, length, strict=True)]
        count = Counter(names)
        longer = [
            n + 1 if count[name] > 1 and n < len(of) else n for of, n, name in zip(parts, length, names, strict=True)
        ]
        if longer == length:
            return names
        length = longer


def counted(count: SupportsIndex, noun: str) -> str:
    """A number with its noun in the singular or plural.

    >>> counted(1, "frame"), counted(1200, "frame"), counted(0, "identity"), counted(2, "person"), counted(3, "box")
    ('1 frame', '1,200 frames', '0 identities', '2 people', '3 boxes')
    """
    number = index(count)
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of a noun: frames, queries, boxes, people."""
    endings = {"person": "people", "y": "ies", "x": "xes", "ss": "sses", "": "s"}
    ending = next(ending for ending in endings if noun.endswith(ending))
    return noun.removesuffix(ending) + endings[ending]
