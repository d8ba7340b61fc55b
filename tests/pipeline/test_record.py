import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest

from reappear.core import InputError, StorageError, WorkspaceError, settings
from reappear.pipeline import record
from reappear.pipeline.record import Outcome, Record, read_record, run_step, sha256


@settings
class Knobs:
    loud: Annotated[int, "how loud"] = 1
    name: Annotated[str, "what"] = "x"


def once(folder: Path, work=None, knobs: Knobs | None = None, **inputs) -> Record:
    work = work or (lambda aside: Outcome(counts={"lines": 1}))
    return run_step(folder, step="try", settings=knobs or Knobs(), inputs=inputs, work=work)


def test_a_step_is_done_once_and_recorded(tmp_path):
    calls = []

    def work(aside: Path) -> Outcome:
        calls.append(aside)
        (aside / "result.txt").write_text("42")
        return Outcome(counts={"lines": 1}, dropped={"blank": 2})

    first = once(tmp_path / "out", work)
    again = once(tmp_path / "out", work)
    assert len(calls) == 1
    assert (tmp_path / "out" / "result.txt").read_text() == "42"
    assert not first.already_done
    assert again.already_done
    assert again.dropped == {"blank": 2}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["record.json", "result.txt"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_step_without_output_fails_and_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="3 blank"):
        once(tmp_path / "out", lambda aside: Outcome({"lines": 3}, {"blank": 3}, made=0))
    assert not (tmp_path / "out").exists()


def test_every_step_says_how_much_it_made():
    """So that none succeeds with nothing in its folder."""
    files = Path(record.__file__).parent.rglob("*.py")
    calls = [
        (path, node)
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Outcome"
    ]
    assert len(calls) > 8
    silent = [f"{path}:{node.lineno}" for path, node in calls if "made" not in [word.arg for word in node.keywords]]
    assert not silent


def test_a_kill_after_the_record_costs_nothing(tmp_path):
    made = once(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "out.partial")

    def never(aside: Path) -> Outcome:
        raise AssertionError("finished work is done again")

    assert once(tmp_path / "out", never).counts == made.counts
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["record.json"]


def test_another_setting_is_refused_by_name_and_changes_nothing(tmp_path):
    once(tmp_path / "out")
    before = (tmp_path / "out" / "record.json").read_bytes()
    with pytest.raises(WorkspaceError, match=r"another loud \(1, now 2\)"):
        once(tmp_path / "out", knobs=Knobs(loud=2))
    assert (tmp_path / "out" / "record.json").read_bytes() == before


def test_another_input_is_refused_by_name(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    once(tmp_path / "out", source=tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("b")
    with pytest.raises(WorkspaceError, match="another input: source"):
        once(tmp_path / "out", source=tmp_path / "a.txt")


def test_a_step_that_fails_leaves_nothing_under_its_name_and_its_work_aside(tmp_path):
    def fails(aside: Path) -> Outcome:
        (aside / "half.txt").write_text("half")
        raise InputError("no")

    with pytest.raises(InputError):
        once(tmp_path / "out", fails)
    assert not (tmp_path / "out").exists()

    def goes_on(aside: Path) -> Outcome:
        assert (aside / "half.txt").read_text() == "half"
        return Outcome()

    once(tmp_path / "out", goes_on)
    assert (tmp_path / "out" / "half.txt").exists()


def test_work_begun_with_other_settings_is_not_continued(tmp_path):
    def fails(aside: Path) -> Outcome:
        (aside / "half.txt").write_text("half")
        raise InputError("no")

    with pytest.raises(InputError):
        once(tmp_path / "out", fails)
    once(tmp_path / "out", knobs=Knobs(loud=2))
    assert not (tmp_path / "out" / "half.txt").exists()


def test_an_input_folder_is_known_by_its_record(tmp_path):
    made = once(tmp_path / "first")
    second = once(tmp_path / "second", first=tmp_path / "first")
    assert second.inputs == {"first": made.fingerprint}


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(InputError, match=r"missing.txt does not exist"):
        once(tmp_path / "out", source=tmp_path / "missing.txt")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": "x"}'])
def test_a_damaged_record_says_what_to_do(tmp_path, text):
    once(tmp_path / "out")
    (tmp_path / "out" / "record.json").write_text(text)
    with pytest.raises(InputError, match=r"damaged.*run its step again"):
        read_record(tmp_path / "out")


def test_a_folder_that_is_no_step_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="holds no finished work"):
        once(tmp_path / "out")


def test_a_full_disk_is_one_clear_line(tmp_path):
    def fills(aside: Path) -> Outcome:
        raise OSError(28, "No space left on device", str(aside / "big"))

    with pytest.raises(StorageError, match=r"big: the disk is full; free some space and run the same command again"):
        once(tmp_path / "out", fills)


def test_the_record_holds_what_reproduction_needs(tmp_path):
    once(tmp_path / "out", knobs=Knobs(name="y"))
    plain = json.loads((tmp_path / "out" / "record.json").read_text())
    assert plain["settings"] == {"loud": 1, "name": "y"}
    assert {"reappear", "python", "numpy"} <= plain["versions"].keys()
    assert plain["seconds"] >= 0
    assert plain["peak_memory_mb"] > 1


def test_sha256_is_the_real_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


SLOW_STEP = """
import sys, time
from pathlib import Path
from reappear.core import settings
from reappear.pipeline.record import Outcome, run_step

@settings
class Knobs: pass

def work(aside):
    (aside / "alive").write_text("")
    time.sleep(60)
    return Outcome()

run_step(Path(sys.argv[1]), step="try", settings=Knobs(), inputs={}, work=work)
"""


def test_two_processes_never_work_in_one_folder_and_a_killed_one_lets_go(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW_STEP)
    child = subprocess.Popen([sys.executable, str(script), str(tmp_path / "out")])
    try:
        while not (tmp_path / "out.partial" / "alive").exists():
            assert child.poll() is None
            time.sleep(0.02)
        with pytest.raises(WorkspaceError, match="another process is working in"):
            once(tmp_path / "out")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    once(tmp_path / "out")
    assert (tmp_path / "out").is_dir()
