import io

import pytest

from reappear.cli.progress import PlainLines, duration, listener


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(monkeypatch, ticks, total, unit="crop"):
    """The lines of a task that advances by `units` at each of `ticks`, (time, units)."""
    clock, out = Clock(), io.StringIO()
    monkeypatch.setattr("reappear.cli.progress.time.monotonic", clock)
    with PlainLines(out).task("work", total, unit) as advance:
        for clock.now, units in ticks:
            advance(units)
    return out.getvalue().splitlines()


def test_plain_lines_show_progress_rate_and_time_left(monkeypatch):
    lines = run(monkeypatch, [(5.0, 10), (20.0, 30)], 100)
    assert lines == ["work: 40/100 crops, 2/s, 30.0 s left", "work: 40 crops in 20.0 s"]


def test_unknown_total_has_no_eta(monkeypatch):
    assert run(monkeypatch, [(11.0, 7)], None, "frame") == ["work: 7 frames", "work: 7 frames in 11.0 s"]


def test_what_was_done_before_a_stop_is_not_in_the_rate(monkeypatch):
    """A task that goes on advances at once by what is there."""
    assert run(monkeypatch, [(0.0, 1_000_000), (10.0, 1000)], 1_002_000)[0].endswith("crops, 100/s, 10.0 s left")


def test_bytes_are_shown_in_megabytes(monkeypatch):
    assert run(monkeypatch, [(0.0, 0), (1.0, 10**6), (11.0, 10**8)], 10**9, "byte")[0].startswith(
        "work: 101.0/1,000.0 MB, 10/s"
    )


def test_quiet_keeps_notes():
    out = io.StringIO()
    progress = listener(quiet=True, stream=out)
    with progress.task("crops", 3, "crop") as advance:
        advance(3)
    progress.note("one video skipped")
    assert out.getvalue() == "one video skipped\n"


def test_bars_run_on_a_terminal(capsys):
    from reappear.cli.progress import Bars

    bars = Bars()
    with bars.task("outer [1]", 2, "video") as advance, bars.task("inner", 1, "frame") as inner:
        inner(1)
        advance(2)
    bars.note("[not markup]")
    message = capsys.readouterr().err
    assert "outer [1]: 2 videos in" in message
    assert "[not markup]" in message


@pytest.mark.parametrize(
    ("seconds", "message"), [(0.0, "0.0 s"), (59.94, "59.9 s"), (60.0, "1 min 0 s"), (3600.0, "1 h 0 min")]
)
def test_duration(seconds, message):
    assert duration(seconds) == message
