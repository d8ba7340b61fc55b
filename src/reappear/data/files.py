import os
from collections.abc import Callable
from pathlib import Path

from reappear.core import InputError, inside

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_files(folder: Path) -> list[Path]:
    """All but the folders of one folder by name, without hidden ones.

    Links to nowhere and pipes are among them: whoever reads them counts and lists them as what cannot be read.
    """
    return _entries(folder, lambda entry: not _is_folder(entry))


def list_folders(folder: Path) -> list[Path]:
    """The folders in one folder by name, without hidden ones; none where the folder is not there."""
    if not folder.is_dir():
        return []
    return _entries(folder, _is_folder)


def _entries(folder: Path, kind: Callable[["os.DirEntry[str]"], bool]) -> list[Path]:
    """Entries of one kind by name, without hidden ones."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and kind(entry))
    return [folder / name for name in names]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's."""
    return path.suffix.lower() in IMAGE_ENDINGS


class Listing:
    """Looks up the files that a list names, which must be there and inside `root`, symbolic links followed.

    Lists each folder once, which is quicker than asking for every file, and keeps the one asked for last, for lists go
    folder by folder.

    Args:
        root: The folder that the paths of the list are relative to.
        source: The list's name, for the reasons.
    """

    def __init__(self, root: Path, source: str) -> None:
        self._root, self._source = root, source
        self._folder: str | None = None
        self._problem = ""
        self._links: dict[str, bool] = {}  # name of each file of the folder → whether it is a link

    def problem(self, path: str) -> str:
        """Why a file cannot be used; "" if it can."""
        folder, name = os.path.split(path)
        if folder != self._folder:
            self._enter(folder)
        if self._problem:
            return self._problem
        if name not in self._links:
            return f"in {self._source}, but not there"
        return self._leads_out(path) if self._links[name] else ""

    def _enter(self, folder: str) -> None:
        self._folder, self._links = folder, {}
        self._problem = self._leads_out(folder)
        if not self._problem:
            try:
                with os.scandir(self._root / folder) as entries:
                    self._links = {entry.name: entry.is_symlink() for entry in entries}
            except OSError:
                pass  # no such folder: none of its files is there

    def _leads_out(self, path: str) -> str:
        try:
            inside(self._root, path)
        except InputError:
            return f"in {self._source}, but its path leads out of the set's folder"
        return ""
