"""What makes a step a step: done once, recorded, refused on changed settings, continued after a kill.

A step works in `FOLDER.partial` and renames it to `FOLDER` when done, with a `record.json` inside. So a folder that
exists is finished. What the step finds in its partial folder is its own earlier work under the same settings.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reappear import __version__
from reappear.core import SILENT, InputError, Progress, WorkspaceError, read_json
from reappear.store import disk_errors, remove_folder, sync_folder, write_text

from .settings import to_plain

_PACKAGES = (
    "numpy",
    "torch",
    "timm",
    "opencv-python-headless",
    "opencv-python",
    "av",
    "onnxruntime",
)


_BEGUN, _CLOCK, _LOCK = "begun.json", "seconds.json", "lock"


@dataclass(frozen=True)
class Outcome:
    """What a step has to tell.

    Attributes:
        counts: How much there is of what.
        dropped: Reason → how many were left out for it.
    """

    counts: dict[str, int | float] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """`record.json`: how a folder came to be.

    Attributes:
        step: Name of the step.
        fingerprint: Hash of step, settings and inputs; what later steps name as their input.
        settings: The resolved settings.
        inputs: Name → fingerprint of a folder or sha256 of a file.
        counts: How much there is of what.
        dropped: Reason → how many were left out for it.
        seconds: Time that the step worked; a run that was killed outright is not in it.
        peak_memory_mb: Largest resident memory of the process so far.
        versions: Of reappear, Python and the packages that numbers depend on.
        already_done: Whether this call found the work done. Not stored.
    """

    step: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    counts: dict[str, int | float]
    dropped: dict[str, int]
    seconds: float
    peak_memory_mb: float
    versions: dict[str, str]
    already_done: bool = False

    def to_json(self) -> str:
        """As stored."""
        plain = dataclasses.asdict(self)
        del plain["already_done"]
        return json.dumps(plain, indent=2) + "\n"


_RECORD = TypeAdapter(Record)


def read_record(folder: Path) -> Record:
    """The record of a finished folder.

    Raises:
        InputError: The folder is not a finished step.
    """
    path = folder / "record.json"
    if not path.exists():
        raise InputError(f"{folder} holds no finished work (no record.json); run the step that writes it")
    try:
        return _RECORD.validate_python(read_json(path))
    except (InputError, ValidationError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is damaged ({text}); remove {folder} and run its step again") from error


def run_step(
    folder: Path,
    *,
    step: str,
    settings: Any,
    inputs: Mapping[str, Path | str],
    work: Callable[[Path], Outcome],
    progress: Progress = SILENT,
) -> Record:
    """Runs `work` once for these settings and inputs.

    Args:
        folder: Where the result goes.
        step: Name of the step.
        settings: A settings dataclass.
        inputs: Name → finished folder, file, or a fingerprint as text.
        work: Fills the folder that it is given. It may find there what an earlier, interrupted call left.
        progress: Who is told.

    Raises:
        WorkspaceError: The folder was made with other settings or inputs; the message names the first difference.
    """
    plain = to_plain(settings)
    hashed = {name: value if isinstance(value, str) else fingerprint(value) for name, value in inputs.items()}
    mark = _hash({"step": step, "settings": plain, "inputs": hashed})
    if folder.exists():
        record = read_record(folder)
        if record.fingerprint != mark:
            raise WorkspaceError(
                f"{folder} was made with another {_difference(record, step, plain, hashed)}; "
                f"name another output, or remove the folder to make it anew"
            )
        progress.note(f"{step}: {folder} is already done")
        return dataclasses.replace(record, already_done=True)

    aside = folder.with_name(folder.name + ".partial")
    with disk_errors(folder):
        aside.mkdir(parents=True, exist_ok=True)
        with _alone_in(aside):
            if (aside / "record.json").exists() and (done := read_record(aside)).fingerprint == mark:
                _give_name(aside, folder)  # the last call was killed between its record and this
                return done
            before = _take_up(aside, mark, step, progress)
            start = time.perf_counter()
            try:
                outcome = work(aside)
            finally:
                seconds = before + time.perf_counter() - start
                with contextlib.suppress(OSError):  # on a full disk the error under way is the one to tell
                    (aside / _CLOCK).write_text(json.dumps(seconds))
            record = Record(
                step=step,
                fingerprint=mark,
                settings=plain,
                inputs=hashed,
                counts=outcome.counts,
                dropped=outcome.dropped,
                seconds=round(seconds, 3),
                peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                versions=_versions(),
            )
            write_text(aside / "record.json", record.to_json())
            _give_name(aside, folder)
    return record


def _give_name(aside: Path, folder: Path) -> None:
    for name in (_BEGUN, _CLOCK, _LOCK):
        (aside / name).unlink(missing_ok=True)
    aside.rename(folder)
    sync_folder(folder.parent)


@contextlib.contextmanager
def _alone_in(aside: Path) -> Iterator[None]:
    """Holds the folder until done or dead: two processes never write into one."""
    with (aside / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkspaceError(f"another process is working in {aside}; wait for it, or stop it") from error
        yield


def _take_up(aside: Path, mark: str, step: str, progress: Progress) -> float:
    """Keeps what an earlier call under the same mark left, and returns the seconds it worked; clears anything else."""
    begun, clock = aside / _BEGUN, aside / _CLOCK
    try:
        same = json.loads(begun.read_text()) == mark
    except (FileNotFoundError, ValueError):
        same = False
    if not same:
        leftovers = [path for path in aside.iterdir() if path.name != _LOCK]
        if leftovers:
            progress.note(f"{step}: {aside} was begun with other settings; starting over")
        for path in leftovers:
            remove_folder(path) if path.is_dir() else path.unlink()
        write_text(begun, json.dumps(mark))
        return 0.0
    try:
        return float(json.loads(clock.read_text()))
    except (FileNotFoundError, ValueError):
        return 0.0


def fingerprint(path: Path) -> str:
    """What stands for `path` in the record of whoever reads it: a finished folder's own, or a file's sha256."""
    if path.is_dir():
        return read_record(path).fingerprint
    return sha256(path)


def sha256(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _hash(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _difference(record: Record, step: str, settings: dict[str, Any], inputs: dict[str, str]) -> str:
    if record.step != step:
        return f"step ({record.step}, now {step})"
    old, new = _flat(record.settings), _flat(settings)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            return f"{key} ({old.get(key)}, now {new.get(key)})"
    changed = sorted(
        name for name in record.inputs.keys() | inputs.keys() if record.inputs.get(name) != inputs.get(name)
    )
    return f"input: {', '.join(changed)}"


def _flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def _versions() -> dict[str, str]:
    found = {"reappear": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
