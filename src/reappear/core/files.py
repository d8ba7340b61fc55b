"""Reads untrusted files: only regular files, of bounded size, inside their folder."""

import json
import os
import stat
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError, ReappearError, SettingsError
from .names import counted

MAX_TEXT_BYTES = 256 << 20
_MAX_NAME_BYTES = 200  # file systems allow 255, and suffixes such as ".partial" are added


def require_regular_file(path: Path) -> os.stat_result:
    """The status of a regular file, symbolic links followed.

    Raises:
        InputError: The path does not exist, cannot be looked up, or is a folder, a device, a pipe or a socket.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise InputError(f"{str(path)!r} cannot be read: {_reason(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InputError(f"{path} is {kind}; give a file")
    return status


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """The contents of a regular file of at most `max_bytes`.

    Raises:
        InputError: It is missing, not a regular file, larger, or cannot be read.
    """
    require_regular_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)  # not st_size: files under /proc have size 0
    except OSError as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}") from error
    if len(data) > max_bytes:
        raise InputError(
            f"{path} is larger than {counted(max_bytes, 'byte')}, the limit for such a file; check that it is one"
        )
    return data


def read_text(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The contents of a UTF-8 text file, without a byte order mark.

    Raises:
        InputError: As `read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


@contextmanager
def parser_errors(
    path: Path | str, kind: str, advice: str = "check that it is one, or copy it again"
) -> Iterator[None]:
    """Converts any exception of a parser on damaged or hostile bytes into an InputError.

    Use it around the call of a parser only. Parsers raise arbitrary exceptions (`KeyError`, `MemoryError`,
    `struct.error`, ...), so that no shorter list of classes is enough.

    Args:
        path: What is read.
        kind: What it should be, such as "a Parquet file".
        advice: What to do about it.

    Raises:
        InputError: The parser failed.
    """
    try:
        yield
    except ReappearError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path") from error
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        reason = text if " " in text else f"{type(error).__name__} {text}".strip()
        raise InputError(f"{path} cannot be read as {kind}: {reason}; {advice}") from error


def parse_json(text: str | bytes, where: Path | str) -> Any:
    """The value of a JSON text.

    Raises:
        InputError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{where} is not usable JSON: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({error}); it may be cut off, write it again") from error


def read_json(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: As `read_text`; or it is not JSON, or nested too deeply.
    """
    return parse_json(read_text(path, max_bytes=max_bytes), path)


def read_json_object(path: Path, *keys: str) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        InputError: As `read_json`; or it is no object, or lacks one of the `keys`.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, got {type(value).__name__}; write it again")
    if lacking := [key for key in keys if key not in value]:
        raise InputError(f"{path} lacks {', '.join(lacking)}; write it again")
    return value


def inside(root: Path, name: str) -> Path:
    """`root / name`, where that lies below `root`, symbolic links in `name` followed.

    Raises:
        InputError: `name` is absolute, or leads out of `root`.
    """
    try:
        path = root / name
        if Path(name).is_absolute() or not path.resolve().is_relative_to(root.resolve()):
            raise InputError(f"{name!r} leads out of {root}; paths there must stay inside")
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a NUL character
        raise InputError(f"{name!r} is no path inside {root}: {_reason(error)}") from error
    return path


def check_name(name: str, option: str) -> str:
    """The name of a result in a workspace: one path component that no temporary folder can have.

    Raises:
        SettingsError: It is empty, has a slash or a control character, begins with a dot, ends in `.partial`, or is too
            long.
    """
    if not name or "/" in name or name.startswith(".") or not name.isprintable():
        problem = "must be one name without slashes, control characters or a leading dot"
    elif name.endswith((".partial", ".tmp")):
        problem = "must not end in .partial or .tmp, which mark unfinished work"
    elif len(os.fsencode(name)) > _MAX_NAME_BYTES:
        problem = f"must be at most {_MAX_NAME_BYTES} bytes long"
    else:
        return name
    shown = name if len(name) <= 80 else f"{name[:80]}..."
    raise SettingsError(f"{option}: {problem}, got {shown!r}")


def printable(text: object) -> str:
    """`str(text)` on one line of text that can be encoded: control characters and undecoded bytes are escaped."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c
        for c in str(text)
    )


def require_text(path: Path) -> None:
    """Refuses an output whose path has bytes that are no text: Parquet, safetensors and JSON cannot hold it.

    Raises:
        InputError: It has.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        advice = "rename it" if sys.getfilesystemencoding() == "utf-8" else "set LC_ALL=C.UTF-8"
        raise InputError(f"{printable(path.absolute())}: the path has bytes that are not text; {advice}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
