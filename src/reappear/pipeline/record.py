"""Steps: run once, recorded, refused on changed settings, resumed after an interruption.

Settings that are marked OPERATIONAL (see `core.settings`) are recorded, and play no part in what is the same.

A step works in `FOLDER.partial` and renames it to `FOLDER` when done, with a `record.json` inside. So a folder that
exists is finished. What the step finds in its partial folder is its own earlier work under the same settings, as
`begun.json` there says: a folder that no step began, or that was begun under other settings, is refused
and left as it is.
"""

import contextlib
import dataclasses
import hashlib
import json
import platform
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from reappear import __version__
from reappear.core import SILENT, InputError, Progress, SettingsError, WorkspaceError, read_json
from reappear.core.files import require_text
from reappear.store import FileHashes, disk_errors, file_lock, sync_folder, write_text

from .outputs import Output, hash_outputs
from .settings import leave_out, operational_names, to_plain

_PACKAGES = (
    "numpy",
    "torch",
    "timm",
    "opencv-python-headless",
    "opencv-python",
    "av",
    "onnxruntime",
)


_PARTIAL = ".partial"
_REPLACED = ".replaced.partial"  # an earlier result, until the new one has its name
_OTHER_INPUT = "input: "  # a difference of inputs alone
_BEGUN, _CLOCK, _LOCK = "begun.json", "seconds.json", "lock"
OWN_FILES = frozenset({"record.json", _BEGUN, _CLOCK, _LOCK})
_DATA = (".npy", ".npz", ".parquet", ".safetensors", ".tar")  # what later steps compute with


@dataclass(frozen=True)
class Outcome:
    """Result of a step.

    Attributes:
        counts: How much there is of what.
        dropped: Reason → how many were left out for it.
        made: Rows of what the step is for; at 0 the step fails. None = it makes one thing, which is there.
    """

    counts: dict[str, int | float] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    made: int | None = None


@dataclass(frozen=True)
class Record:
    """`record.json`: how a folder came to be.

    Attributes:
        step: Name of the step.
        fingerprint: Hash of step, settings without the operational ones, and inputs; what later steps name as their
            input.
        settings: The resolved settings, all of them.
        inputs: Name → fingerprint of a folder or sha256 of a file.
        counts: How much there is of what.
        dropped: Reason → how many were left out for it.
        seconds: Time that the step worked; a run that was killed outright is not in it.
        peak_memory_mb: Largest resident memory of the process so far.
        versions: Of reappear, Python and the packages that numbers depend on.
        outputs: Name → SHA-256 and size of each file that the step wrote, see `hash_outputs`. None: an older version
            wrote the record.
        operational: Dotted names of the settings that change no result, and are no part of the fingerprint.
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
    outputs: dict[str, Output] | None = None
    operational: tuple[str, ...] = ()
    already_done: bool = False

    @property
    def is_consistent(self) -> bool:
        """Whether the fingerprint is that of the step, settings and inputs beside it."""
        return self.fingerprint == _fingerprint(vars(self), self.operational)

    def to_json(self) -> str:
        """As stored."""
        plain = dataclasses.asdict(self)
        del plain["already_done"]
        return json.dumps(plain, indent=2) + "\n"


_RECORD = TypeAdapter(Record)


Changed = Literal["refuse", "replace", "keep"]


@dataclass(frozen=True)
class Update:
    """What `run_step` does where a folder, or unfinished work for it, was made of other inputs by the same settings.

    Attributes:
        decide: Of the record of the finished folder: "replace" it by the result of the present inputs, which the work
            may take from it, for it is there until the end; "keep" it as it is; or "refuse".
        discard: Removes from unfinished work what is of other inputs.
        archive: Name that a replaced folder gets, beside the new one; None = it is removed.
    """

    decide: Callable[[Record], Changed]
    discard: Callable[[Path], None]
    archive: Callable[[], str] | None = None


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
    clear: Callable[[Path], None] | None = None,
    update: Update | None = None,
    progress: Progress = SILENT,
) -> Record:
    """Runs `work` once for these settings and inputs.

    Args:
        folder: Where the result goes.
        step: Name of the step.
        settings: A settings dataclass, or plain data.
        inputs: Name → finished folder, file, or a fingerprint as text.
        work: Fills the folder that it is given. It may find there what an earlier, interrupted call left.
        clear: Begins anew: removes what an earlier call of this step left in the partial folder.
        update: What happens where the inputs have changed; they are refused if not given.
        progress: Progress listener.

    Raises:
        InputError: The output would be empty.
        SettingsError: The name of the folder marks unfinished work.
        WorkspaceError: The folder was made, or begun, with other inputs or other settings that the result depends on
            (the message names the first difference), or it is not one of ours.
    """
    if folder.name.endswith((_PARTIAL, ".tmp")):
        raise SettingsError(f"{folder}: names that end in {_PARTIAL} or .tmp mark unfinished work; choose another name")
    require_text(folder)
    if folder.is_symlink() and not folder.exists():
        raise WorkspaceError(f"{folder} is a symbolic link to nothing; remove it, or name another output")
    operational = operational_names(settings)
    hashed = {name: value if isinstance(value, str) else fingerprint(value) for name, value in inputs.items()}
    begun = _describe(step, settings, hashed)
    staging = folder.with_name(folder.name + _PARTIAL)
    if update is not None:
        _finish_replacing(staging, folder)
    seen = _stamp(folder)
    if folder.exists() or folder.is_symlink():
        if not (folder / "record.json").exists():
            raise WorkspaceError(f"{folder} is there and holds no finished work of reappear; name another output")
        record = read_record(folder)
        difference = _difference(vars(record), begun, operational)
        changed: Changed = "refuse" if difference else "keep"
        if difference.startswith(_OTHER_INPUT) and update is not None:
            changed = update.decide(record)
        if changed == "refuse":
            raise WorkspaceError(
                f"{folder} was made with another {difference}; name another output, or remove the folder to make it "
                f"anew"
            )
        if changed == "keep":
            progress.note(f"{step}: {folder} is {'kept' if difference else 'already done'}")
            return dataclasses.replace(record, already_done=True)

    with disk_errors(folder), _exclusive_lock(staging):
        if _stamp(folder) != seen:  # finished by another process meanwhile
            _remove_if_nothing_is_done(staging)
            raise _occupied(staging)
        done = read_record(staging) if (staging / "record.json").exists() else None
        if done is not None and not _difference(vars(done), begun, operational):
            _publish(staging, folder, update)  # the last call was killed between its record and this
            return done
        before = _resume_or_start(staging, begun, operational, clear, update)
        start = time.perf_counter()
        try:
            try:
                outcome = work(staging)
            finally:
                seconds = before + time.perf_counter() - start
                with contextlib.suppress(OSError):  # on a full disk, do not mask the original error
                    (staging / _CLOCK).write_text(json.dumps(seconds))
            _require_output(step, folder, outcome)
        except Exception:
            _remove_if_nothing_is_done(staging)
            raise
        record = Record(
            **begun,
            outputs=hash_outputs(staging, ignore=OWN_FILES, progress=progress),
            counts=outcome.counts,
            dropped=outcome.dropped,
            seconds=round(seconds, 3),
            peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            versions=_versions(),
            operational=operational,
        )
        write_text(staging / "record.json", record.to_json())
        _publish(staging, folder, update)
    return record


def _require_output(step: str, folder: Path, outcome: Outcome) -> None:
    if outcome.made is None or outcome.made > 0:
        return
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in outcome.dropped.items()) or "nothing came in"
    raise InputError(f"{step}: nothing is left to write to {folder} ({reasons}); check its inputs and settings")


def _publish(staging: Path, folder: Path, update: Update | None = None) -> None:
    """Gives finished work its name. An earlier result is moved away first, and removed at last."""
    for name in (_BEGUN, _CLOCK):
        (staging / name).unlink(missing_ok=True)
    replaced = folder.with_name(folder.name + _REPLACED)
    if update is not None and folder.exists():
        folder.rename(replaced if update.archive is None else folder.with_name(update.archive()))
    staging.rename(folder)
    (folder / _LOCK).unlink(missing_ok=True)  # not earlier: another process would make and lock a new one
    sync_folder(folder.parent)
    if update is not None:
        shutil.rmtree(replaced, ignore_errors=True)


def _finish_replacing(staging: Path, folder: Path) -> None:
    """Ends a replacement that was killed between its renames, and removes what it left."""

    def is_left() -> bool:
        is_free = not folder.exists() and not folder.is_symlink()
        return is_free and (staging / "record.json").exists() and _read_begun(staging) is not None

    if is_left():
        with _exclusive_lock(staging):
            if is_left():
                _publish(staging, folder)
    if folder.exists():
        shutil.rmtree(folder.with_name(folder.name + _REPLACED), ignore_errors=True)


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What is another one when a folder is made, or made anew."""
    try:
        found = (folder / "record.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextlib.contextmanager
def _exclusive_lock(staging: Path) -> Iterator[None]:
    """Makes the folder and locks it for this process, so that no two processes write into it.

    Raises:
        WorkspaceError: Another process works in it, or has just finished or removed it; or it is not one of ours.
    """
    with contextlib.ExitStack() as stack:
        try:
            _require_own(staging)
            staging.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                staging.mkdir()
            stack.enter_context(file_lock(staging / _LOCK))
        except (BlockingIOError, FileNotFoundError) as error:
            raise _occupied(staging) from error
        yield


def _occupied(staging: Path) -> WorkspaceError:
    return WorkspaceError(f"another process is working in {staging}; wait for it, or stop it")


def _require_own(staging: Path) -> None:
    """Refuses a path that is not free, unless it is a folder that a step began; looks, and touches nothing."""
    if not staging.exists() and not staging.is_symlink():
        return
    if not staging.is_dir():
        raise WorkspaceError(
            f"{staging}, where unfinished work would go, is not a folder; move it, or name another output"
        )
    if _read_begun(staging) is None and not _is_untouched(staging):
        raise WorkspaceError(
            f"{staging}, where unfinished work would go, holds files that reappear did not write; "
            f"move it, or name another output"
        )


def _read_begun(staging: Path) -> dict[str, Any] | None:
    """What the folder was begun with, from `begun.json` or, where only its name is missing, from `record.json`."""
    for name in (_BEGUN, "record.json"):
        try:
            found = json.loads((staging / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if not isinstance(found, dict) or not found.keys() >= {"step", "fingerprint", "settings", "inputs"}:
            continue
        if isinstance(found["settings"], dict) and isinstance(found["inputs"], dict):
            return found
    return None


def _is_untouched(staging: Path) -> bool:
    """Whether there is nothing in the folder but what `run_step` puts there before any work, and empty folders."""
    ours = {_LOCK} if _read_begun(staging) is None else {_LOCK, _BEGUN, _CLOCK}

    def is_ours(path: Path) -> bool:
        if path.parent != staging or (path.name == _LOCK and path.lstat().st_size):
            return False
        return path.name in ours or path.match(f".{_BEGUN}.*.tmp")

    return all(is_ours(path) for path in staging.rglob("*") if path.is_symlink() or not path.is_dir())


def _resume_or_start(
    staging: Path,
    begun: Mapping[str, Any],
    operational: Sequence[str],
    clear: Callable[[Path], None] | None,
    update: Update | None,
) -> float:
    """Resumes earlier work under the same settings, or starts; returns the seconds worked before.

    Raises:
        WorkspaceError: It was begun with other settings or inputs.
    """
    earlier = _read_begun(staging)
    difference = "" if earlier is None else _difference(earlier, begun, operational)
    if clear is not None:
        clear(staging)
        (staging / "record.json").unlink(missing_ok=True)
    elif earlier is not None and not difference:
        try:
            return float(json.loads((staging / _CLOCK).read_text()))
        except (FileNotFoundError, ValueError):
            return 0.0
    elif update is not None and difference.startswith(_OTHER_INPUT):
        update.discard(staging)
        (staging / "record.json").unlink(missing_ok=True)
    elif earlier is not None and not _is_untouched(staging):
        raise WorkspaceError(
            f"{staging} was begun with another {difference}; go back to that, name another output, "
            f"or remove that folder to begin anew"
        )
    (staging / _CLOCK).unlink(missing_ok=True)
    write_text(staging / _BEGUN, json.dumps(begun, indent=2) + "\n")
    return 0.0


def _remove_if_nothing_is_done(staging: Path) -> None:
    with contextlib.suppress(OSError):
        if _is_untouched(staging):
            for name in (_BEGUN, _CLOCK, _LOCK):
                (staging / name).unlink(missing_ok=True)
            staging.rmdir()


def fingerprint(path: Path) -> str:
    """What stands for a file or a finished folder in the record of a step that reads it.

    Of a file, the SHA-256 of its content. Of a folder, its own fingerprint with the checksums of its tables, vectors,
    images and weights, for another version or another machine may write others under the same settings; texts beside
    them, which also hold times, do not count.
    """
    if not path.is_dir():
        return FileHashes().sha256(path)
    record = read_record(path)
    data = {name: of.sha256 for name, of in (record.outputs or {}).items() if name.endswith(_DATA)}
    return _hash([record.fingerprint, data]) if data else record.fingerprint


def require_made_of(folder: Path, **inputs: Path) -> None:
    """Checks that a finished folder was made of these inputs as they are now.

    Raises:
        WorkspaceError: An input has been made anew since, under the same name.
    """
    record = read_record(folder)
    for name, path in inputs.items():
        if name in record.inputs and record.inputs[name] != fingerprint(path):
            raise WorkspaceError(
                f"{folder} was made of other {name} than {path} holds now; make it anew under another name"
            )


def key_of(step: str, settings: Any, inputs: Mapping[str, str]) -> str:
    """The fingerprint that `run_step` gives to a result of these settings and hashed inputs."""
    return str(_describe(step, settings, inputs)["fingerprint"])


def _describe(step: str, settings: Any, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Step, settings and inputs as records have them, with their fingerprint."""
    of = {"step": step, "settings": to_plain(settings), "inputs": dict(inputs)}
    return of | {"fingerprint": _fingerprint(of, operational_names(settings))}


def _hash(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _fingerprint(of: Mapping[str, Any], operational: Sequence[str]) -> str:
    """The hash of a step, its settings without the operational ones, and its inputs."""
    return _hash({"step": of["step"], "settings": leave_out(of["settings"], operational), "inputs": of["inputs"]})


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], operational: Sequence[str]) -> str:
    """The first difference between what two calls of `run_step` were given that matters; "" where there is none."""
    if _fingerprint(old, operational) == new["fingerprint"]:
        return ""
    if old["step"] != new["step"]:
        return f"step ({old['step']}, now {new['step']})"
    before, now = (_flat(leave_out(of["settings"], operational)) for of in (old, new))
    for key in sorted(before.keys() | now.keys(), key=lambda key: (not key.endswith("kind"), key)):
        one, other = (repr(values[key]) if key in values else "not set" for values in (before, now))
        if one != other:
            return f"{key} ({one}, now {other})"
    names = old["inputs"].keys() | new["inputs"].keys()
    changed = sorted(name for name in names if old["inputs"].get(name) != new["inputs"].get(name))
    return f"{_OTHER_INPUT}{', '.join(changed)}"


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
