"""What lies there: videos, or crops that somebody has cut already."""

from collections.abc import Sequence
from pathlib import Path

from reappear.core import Progress, SettingsError

VIDEOS, VECTORS = "videos", "vectors"


def tell(sources: Sequence[Path], asked: str, progress: Progress) -> str:
    """The kind that was asked for, or the one that the files are of.

    Raises:
        SettingsError: There is no such kind.
    """
    known = (VIDEOS, VECTORS)
    if asked in known:
        return asked
    if asked != "auto":
        raise SettingsError(f"layout: must be auto, {', '.join(known)}, got {asked!r}")
    if sources and sources[0].suffix.lower() == ".npy":
        progress.note(f"ingest: {sources[0]} is read as {VECTORS}: embeddings with their labels")
        return VECTORS
    return VIDEOS
