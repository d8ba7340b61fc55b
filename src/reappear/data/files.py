import os
from pathlib import Path

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_files(folder: Path) -> list[Path]:
    """The files of one folder by name, without hidden ones."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
    return [folder / name for name in names]


def list_folders(folder: Path) -> list[Path]:
    """The folders in one folder by name, without hidden ones; none where the folder is not there."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    return [folder / name for name in names]


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's."""
    return path.suffix.lower() in IMAGE_ENDINGS


class Listing:
    """Tells whether files are there by listing their folders, once each: quicker than asking for every file.

    Keeps the folder asked for last, for lists go folder by folder.
    """

    def __init__(self) -> None:
        self._folder = ""
        self._names: set[str] = set()

    def __contains__(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder != self._folder:
            try:
                self._names = set(os.listdir(folder))  # noqa: PTH208 (names, and no Path for each)
            except OSError:
                self._names = set()
            self._folder = folder
        return name in self._names
