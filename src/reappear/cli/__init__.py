"""The command line."""

import os
import sys

from .signals import exit_on_signals

__all__ = ["main"]


def main() -> None:
    """The command `reappear`; nothing heavy is imported before signals are handled."""
    _open_closed_streams()
    with exit_on_signals():
        from .app import main as run

        run()


def _open_closed_streams() -> None:
    """Opens what the caller closed (`2>&-`), or a file of ours would get its number, and what C code prints."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
