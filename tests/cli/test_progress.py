import io

import pytest

from reappear.cli.progress import PlainLines, duration, listener


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_show_progress_and_time_left(monkeypatch):
    clock, out = Clock(), io.StringIO()
    monkeypatch.setattr("reappear.cli.progress.time.monotonic", clock)
    with PlainLines(out).task("crops", 100) as advance:
        clock.now = 5.0
        advance(10)
        clock.now = 20.0
        advance(30)
    assert out.getvalue() == "crops: 40/100, 30.0 s left\ncrops: 40 in 20.0 s\n"


def test_unknown_total_has_no_eta(monkeypatch):
    clock, out = Clock(), io.StringIO()
    monkeypatch.setattr("reappear.cli.progress.time.monotonic", clock)
    with PlainLines(out).task("frames", None) as advance:
        clock.now = 11.0
        advance(7)
    assert out.getvalue().splitlines()[0] == "frames: 7"


def test_quiet_keeps_notes():
    out = io.StringIO()
    progress = listener(quiet=True, stream=out)
    with progress.task("crops", 3) as advance:
        advance(3)
    progress.note("one video skipped")
    assert out.getvalue() == "one video skipped\n"


def test_bars_run_on_a_terminal(capsys):
    from reappear.cli.progress import Bars

    bars = Bars()
    with bars.task("outer", 2) as advance, bars.task("inner", 1) as inner:
        inner(1)
        advance(2)
    bars.note("[not markup]")
    message = capsys.readouterr().err
    assert "outer: 2 in" in message
    assert "[not markup]" in message


@pytest.mark.parametrize(
    ("seconds", "message"), [(0.0, "0.0 s"), (59.94, "59.9 s"), (60.0, "1 min 0 s"), (3600.0, "1 h 0 min")]
)
def test_duration(seconds, message):
    assert duration(seconds) == message
