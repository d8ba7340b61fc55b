"""The errors that reappear raises.

    ReappearError
    ├── InputError       input cannot be read or is invalid                 exit code 1
    ├── StorageError     writing or reading failed: disk full, read-only     exit code 1
    ├── WorkspaceError   a folder was made with other settings or inputs     exit code 1
    ├── MissingExtra     an optional package is not installed                exit code 1
    ├── EngineError      worker processes died or cannot start               exit code 1
    ├── TrainingError    a training diverged                                 exit code 1
    └── SettingsError    a setting is unknown, of a wrong type or range      exit code 2

A message is one line: what is wrong, where, and what to do about it.
"""


class ReappearError(Exception):
    """Base of all errors of reappear."""


class InputError(ReappearError):
    """Input cannot be read or is invalid."""


class StorageError(ReappearError):
    """Writing or reading failed."""


class WorkspaceError(ReappearError):
    """A folder of the workspace was made with other settings or inputs."""


class MissingExtra(ReappearError):
    """An optional package is not installed."""


class EngineError(ReappearError):
    """Worker processes died or cannot start."""


class TrainingError(ReappearError):
    """A training cannot continue."""


class SettingsError(ReappearError):
    """A setting is unknown, of a wrong type, or out of range."""
