from collections import Counter
from collections.abc import Sequence
from pathlib import Path


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


def counted(count: int, noun: str) -> str:
    """A number with its noun in the singular or plural.

    >>> counted(1, "frame"), counted(1200, "frame"), counted(0, "identity"), counted(2, "person")
    ('1 frame', '1,200 frames', '0 identities', '2 people')
    """
    many = "people" if noun == "person" else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    plural = noun if count == 1 else many
    return f"{count:,} {plural}"
