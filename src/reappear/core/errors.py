"""Every error that reappear raises on purpose.

    ReappearError
    ├── InputError       what was given cannot be read or makes no sense     exit code 1
    ├── StorageError     the disk refused: full, read-only, gone             exit code 1
    ├── WorkspaceError   a finished folder disagrees with what was asked     exit code 1
    ├── MissingExtra     an optional package is not installed                exit code 1
    ├── EngineError      worker processes die or lack what they need         exit code 1
    ├── TrainingError    a training diverged                                 exit code 1
    └── SettingsError    a setting is unknown, of a wrong type or range      exit code 2

A message is one line: what is wrong, where, and what to do about it.
"""


class ReappearError(Exception):
    """Base of all errors raised on purpose."""


class InputError(ReappearError):
    """Input that cannot be read or makes no sense."""


class StorageError(ReappearError):
    """The disk refused a write or a read."""


class WorkspaceError(ReappearError):
    """A folder of the workspace disagrees with what was asked."""


class MissingExtra(ReappearError):
    """An optional package is needed and absent."""


class EngineError(ReappearError):
    """Worker processes die, or lack what they need."""


class TrainingError(ReappearError):
    """A training cannot go on."""


class SettingsError(ReappearError):
    """A setting is unknown, of a wrong type, or out of range."""
