"""What is kept while identities are found, so that a killed call goes on after its last stage, and inside the next."""

from pathlib import Path

from reappear.core import Engine, Progress
from reappear.pipeline.engines.kept import CHUNKS, Kept
from reappear.store import Identities, read_identities, remove_scratch, write_identities

_TABLES = ("identities", "tracklets", "links", "moves", "refused")
_FILES = (*(f"{name}.parquet" for name in _TABLES), "report.json", *CHUNKS)


class StageCheckpoints:
    """A folder with what the last finished stage left, and what is there of the one after it."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder = folder
        self._progress = progress

    def last(self) -> Identities | None:
        """How things stood after the last stage that was finished."""
        whole = sorted(self._folder.glob("after-*/report.json"))  # which is written last
        if not whole:
            return None
        found = read_identities(whole[-1].parent)
        self._progress.note(f"correlate: goes on after {found.report['stages'][-1]['name']!r}")
        return found

    def keep(self, found: Identities) -> None:
        """Keeps how things stand, in place of what was kept before."""
        mine = self._folder / f"after-{len(found.report['stages']):02d}"
        write_identities(mine, found)
        for other in self._folder.iterdir():
            if other != mine:
                remove_scratch(other, *_FILES)

    def remove(self) -> None:
        """Removes everything that was kept."""
        remove_scratch(self._folder, *_FILES)

    def engine(self, engine: Engine, name: str) -> Engine:
        """An engine that keeps what it does for the stage `name`."""
        return Kept(engine, self._folder / f"in-{name}", name, self._progress)
