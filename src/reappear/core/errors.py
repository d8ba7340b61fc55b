"""The errors that reappear raises.

    ReappearError
    ├── InputError       input cannot be read or is invalid                 exit code 1
    ├── StorageError     writing or reading failed: disk full, read-only     exit code 1
    ├── WorkspaceError   a folder was made with other settings or inputs     exit code 1
    ├── DownloadError    weights cannot be downloaded                        exit code 1
    ├── MissingExtra     an optional package is not installed                exit code 1
    ├── EngineError      worker processes died or cannot start               exit code 1
    ├── TrainingError    a training diverged                                 exit code 1
    ├── DeviceError      a GPU has too little memory                         exit code 1
    └── SettingsError    a setting is unknown, of a wrong type or range      exit code 2

A message is one line: what is wrong, where, and what to do about it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

# Of torch on a GPU and on a CPU, of CUDA's own calls, and of cuBLAS and cuDNN, which take their own memory.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "_ALLOC_FAILED")


class ReappearError(Exception):
    """Base of all errors of reappear."""


class InputError(ReappearError):
    """Input cannot be read or is invalid."""


class StorageError(ReappearError):
    """Writing or reading failed."""


class WorkspaceError(ReappearError):
    """A folder of the workspace was made with other settings or inputs."""


class DownloadError(ReappearError):
    """Weights cannot be downloaded."""


class MissingExtra(ReappearError):
    """An optional package is not installed."""


class EngineError(ReappearError):
    """Worker processes died or cannot start."""


class TrainingError(ReappearError):
    """A training cannot continue."""


class DeviceError(ReappearError):
    """A device, such as a GPU, has too little memory."""


class SettingsError(ReappearError):
    """A setting is unknown, of a wrong type, or out of range."""


@contextmanager
def device_memory_errors(advice: str) -> Iterator[None]:
    """Raises a `DeviceError` where torch runs out of memory.

    Args:
        advice: What to do about it, with the names of the settings.
    """
    try:
        yield
    except RuntimeError as error:
        if not (found := describe_out_of_memory(error)):
            raise
        raise DeviceError(f"{found}; {advice}") from error


def describe_out_of_memory(error: Exception) -> str:
    """The first sentences of torch's or CUDA's error about memory, in one line; empty for any other error."""
    text = " ".join(str(error).split())
    if not isinstance(error, RuntimeError) or not any(part in text for part in _OUT_OF_MEMORY):
        return ""
    return ", ".join(text.split(". ")[:3])[:300].rstrip(".")
