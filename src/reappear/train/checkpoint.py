"""Checkpoints of a training: written atomically, checked by hash, rotated."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from reappear.core import InputError, Progress, require_regular_file
from reappear.models.checkpoints import load_plain
from reappear.store import atomic_write

_DIGITS = 16


class Checkpoints:
    """The last `keep` states of one training.

    A state is one file whose name holds its step and the hash of its bytes, so a file that was cut short or changed is
    recognised, and the one before it is used. Files are read without running any code of theirs.

    Args:
        folder: Created when the first is saved.
        keep: Number kept.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Saves the state after `step` finished steps, then removes the oldest beyond `keep`."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getbuffer()
        path = self.folder / f"step-{step:09d}-{hashlib.sha256(data).hexdigest()[:_DIGITS]}.pt"
        with atomic_write(path) as staging:
            staging.write_bytes(data)
        for old in self._newest_first()[self.keep :]:
            old.unlink()

    def load(self, progress: Progress) -> tuple[int, dict[str, Any]] | None:
        """The newest state that is whole, with its step; None if nothing was saved.

        Raises:
            InputError: States exist, but none is whole.
        """
        return _newest(self._newest_first(), progress)

    @staticmethod
    def read(path: Path, progress: Progress) -> tuple[int, dict[str, Any]]:
        """The state in a file, or the newest whole one in a folder or in the `checkpoints` folder inside it.

        Raises:
            InputError: There is none.
        """
        inside = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        found = _newest(sorted(inside.glob("step-*.pt"), reverse=True) if inside.is_dir() else [inside], progress)
        if found is None:
            raise InputError(f"{path} holds no checkpoint (step-*.pt); name a file, or a folder of a stopped training")
        return found

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"), reverse=True)


def _newest(files: list[Path], progress: Progress) -> tuple[int, dict[str, Any]] | None:
    for path in files:
        require_regular_file(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"checkpoint {path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest()[:_DIGITS] != path.stem.rpartition("-")[2]:
            progress.note(f"{path} is damaged; falling back to the one before")
            continue
        state: dict[str, Any] = load_plain(io.BytesIO(data), path)
        return int(path.stem.split("-")[1]), state
    if files:
        raise InputError(f"no checkpoint in {files[0].parent} is whole; remove {files[0].parent.parent} to start over")
    return None
