"""The command line."""

from .signals import exit_on_signals

__all__ = ["main"]


def main() -> None:
    """The command `reappear`; nothing heavy is imported before signals are handled."""
    with exit_on_signals():
        from .app import main as run

        run()
