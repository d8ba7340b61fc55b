import ast
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest

from reappear.core import InputError, SettingsError, StorageError, WorkspaceError, settings
from reappear.pipeline import record
from reappear.pipeline.record import Outcome, Record, Update, read_record, run_step


@settings
class Knobs:
    loud: Annotated[int, "how loud"] = 1
    name: Annotated[str, "what"] = "x"


def once(folder: Path, work=None, knobs: Knobs | None = None, **inputs) -> Record:
    work = work or (lambda staging: Outcome(counts={"lines": 1}))
    return run_step(folder, step="try", settings=knobs or Knobs(), inputs=inputs, work=work)


def test_step_runs_once_and_is_recorded(tmp_path):
    calls = []

    def work(staging: Path) -> Outcome:
        calls.append(staging)
        (staging / "result.txt").write_text("42")
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
    with pytest.raises(InputError, match="blank: 3"):
        once(tmp_path / "out", lambda staging: Outcome({"lines": 3}, {"blank": 3}, made=0))
    assert not (tmp_path / "out").exists()


def test_every_step_reports_its_amount():
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


def test_kill_after_the_record_loses_nothing(tmp_path):
    made = once(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "out.partial")

    def never(staging: Path) -> Outcome:
        raise AssertionError("finished work is done again")

    assert once(tmp_path / "out", never).counts == made.counts
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["record.json"]


def test_changed_setting_is_refused_by_name(tmp_path):
    once(tmp_path / "out")
    before = (tmp_path / "out" / "record.json").read_bytes()
    with pytest.raises(WorkspaceError, match=r"another loud \(1, now 2\)"):
        once(tmp_path / "out", knobs=Knobs(loud=2))
    assert (tmp_path / "out" / "record.json").read_bytes() == before


def test_changed_input_is_refused_by_name(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    once(tmp_path / "out", source=tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("b")
    with pytest.raises(WorkspaceError, match="another input: source"):
        once(tmp_path / "out", source=tmp_path / "a.txt")


def test_failed_step_leaves_only_a_partial_folder(tmp_path):
    def fails(staging: Path) -> Outcome:
        (staging / "half.txt").write_text("half")
        raise InputError("no")

    with pytest.raises(InputError):
        once(tmp_path / "out", fails)
    assert not (tmp_path / "out").exists()

    def goes_on(staging: Path) -> Outcome:
        assert (staging / "half.txt").read_text() == "half"
        return Outcome()

    once(tmp_path / "out", goes_on)
    assert (tmp_path / "out" / "half.txt").exists()


def fails_half_way(staging: Path) -> Outcome:
    (staging / "half.txt").write_text("half")
    raise InputError("no")


@pytest.mark.parametrize(
    ("changed", "named"), [({"knobs": Knobs(loud=2)}, r"loud \(1, now 2\)"), ({"source": "b"}, "input: source")]
)
def test_unfinished_work_with_other_settings_is_refused_and_kept(tmp_path, changed, named):
    with pytest.raises(InputError):
        once(tmp_path / "out", fails_half_way, **{"source": "a"})
    before = tree(tmp_path)
    with pytest.raises(WorkspaceError, match=f"out.partial was begun with another {named}"):
        once(tmp_path / "out", **{"source": "a", **changed})
    assert tree(tmp_path) == before
    once(tmp_path / "out", lambda staging: Outcome({"half": int((staging / "half.txt").exists())}), source="a")
    assert read_record(tmp_path / "out").counts == {"half": 1}


def test_unrenamed_finished_work_is_refused_with_other_settings(tmp_path):
    once(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "out.partial")
    before = tree(tmp_path)
    with pytest.raises(WorkspaceError, match=r"begun with another loud \(1, now 2\)"):
        once(tmp_path / "out", knobs=Knobs(loud=2))
    assert {name: before[name] for name in before} == {name: tree(tmp_path)[name] for name in before}


def test_early_failure_leaves_nothing(tmp_path):
    def fails(staging: Path) -> Outcome:
        raise InputError("no")

    with pytest.raises(InputError):
        once(tmp_path / "out", fails)
    assert not tree(tmp_path)
    once(tmp_path / "out", knobs=Knobs(loud=2))


def test_empty_unfinished_work_is_replaced(tmp_path):
    staging = tmp_path / "out.partial"
    staging.mkdir()
    begun = {"step": "try", "fingerprint": "0", "settings": {"loud": 3}, "inputs": {}}
    (staging / "begun.json").write_text(json.dumps(begun))
    (staging / "lock").touch()
    once(tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def before(monkeypatch, module, name, action):
    """Runs `action` before the next call of a function of a module."""
    plain = getattr(module, name)

    def run(*given):
        monkeypatch.setattr(module, name, plain)
        action()
        return plain(*given)

    monkeypatch.setattr(module, name, run)


@pytest.mark.parametrize(("module", "name"), [(record, "_require_own"), (record, "_read_begun"), (fcntl, "flock")])
def test_work_that_another_process_just_finished_is_not_begun_again(tmp_path, monkeypatch, module, name):
    (tmp_path / "out.partial").mkdir()
    before(monkeypatch, module, name, lambda: once(tmp_path / "out"))
    with pytest.raises(WorkspaceError, match="another process is working in"):
        once(tmp_path / "out", lambda staging: pytest.fail("done twice"))
    assert list(tree(tmp_path)) == ["out/record.json"]


def test_folder_stays_locked_until_it_has_its_name(tmp_path, monkeypatch):
    def intrude():
        with pytest.raises(WorkspaceError, match="another process is working in"):
            once(tmp_path / "out")

    def work(staging: Path) -> Outcome:
        before(monkeypatch, Path, "rename", intrude)
        return Outcome()

    once(tmp_path / "out", work)
    assert list(tree(tmp_path)) == ["out/record.json"]


def test_interrupted_replacement_is_ended_by_one_process(tmp_path, monkeypatch):
    update_to(tmp_path / "out", "a")
    (tmp_path / "out").rename(tmp_path / "out.partial")
    before(monkeypatch, fcntl, "flock", lambda: update_to(tmp_path / "out", "a"))
    with pytest.raises(WorkspaceError, match="another process is working in"):
        update_to(tmp_path / "out", "a")
    assert update_to(tmp_path / "out", "a").already_done


def update_to(folder: Path, source: str, decision="replace", knobs=None, archive=None, work=None) -> Record:
    """A step whose result is the content of its source, and what was there before."""

    def fill(staging: Path) -> Outcome:
        before = (folder / "result.txt").read_text() if folder.exists() else ""
        (staging / "result.txt").write_text(before + source)
        return Outcome()

    return run_step(
        folder,
        step="try",
        settings=knobs or Knobs(),
        inputs={"source": source},
        work=work or fill,
        update=Update(lambda record: decision, lambda staging: (staging / "half.txt").unlink(), archive),
    )


def test_result_of_other_inputs_is_replaced_kept_or_refused(tmp_path):
    out = tmp_path / "out"
    update_to(out, "a")
    assert update_to(out, "a").already_done
    assert not update_to(out, "b").already_done
    assert tree(tmp_path).keys() == {"out/record.json", "out/result.txt"}
    assert (out / "result.txt").read_text() == "ab"
    assert read_record(out).inputs == {"source": "b"}
    before = tree(tmp_path)
    assert update_to(out, "c", "keep").already_done
    with pytest.raises(WorkspaceError, match="another input: source"):
        update_to(out, "c", "refuse")
    with pytest.raises(WorkspaceError, match=r"another loud \(1, now 2\)"):
        update_to(out, "c", knobs=Knobs(loud=2))
    assert tree(tmp_path) == before
    update_to(out, "c", archive=lambda: "old")
    assert (tmp_path / "old" / "result.txt").read_text() == "ab"
    assert (out / "result.txt").read_text() == "abc"


def test_unfinished_work_of_other_inputs_is_discarded(tmp_path):
    out = tmp_path / "out"
    update_to(out, "a")
    with pytest.raises(InputError):
        update_to(out, "b", work=fails_half_way)
    assert (out / "result.txt").read_text() == "a"
    (tmp_path / "out.partial" / "mine.txt").write_text("mine")
    update_to(out, "c")
    assert sorted(tree(out)) == ["mine.txt", "record.json", "result.txt"]


@pytest.mark.parametrize("archive", [None, lambda: "old"])
@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_stop_while_a_result_is_replaced(tmp_path, monkeypatch, stop_at, archive):
    """Before the old result is moved away, between the two renames, and before the old one is removed."""
    out, seen = tmp_path / "out", []
    update_to(out, "a")
    rename, rmtree = Path.rename, shutil.rmtree

    def count():
        seen.append(1)
        if len(seen) == stop_at:
            raise KeyboardInterrupt

    def stops(path, target):
        count()
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stops)
        patch.setattr(shutil, "rmtree", lambda *given, **named: count() or rmtree(*given, **named))
        with pytest.raises(KeyboardInterrupt):
            update_to(out, "b", archive=archive)
    assert out.exists() or (tmp_path / "out.partial" / "record.json").exists()
    update_to(out, "b", archive=archive)
    assert (out / "result.txt").read_text() == "ab"
    kept = {"old/record.json", "old/result.txt"} if archive else set()
    assert tree(tmp_path).keys() == {"out/record.json", "out/result.txt"} | kept
    update_to(out, "c")
    assert (out / "result.txt").read_text() == "abc"


def test_restart_removes_only_files_of_the_step(tmp_path):
    with pytest.raises(InputError):
        once(tmp_path / "out", fails_half_way)
    (tmp_path / "out.partial" / "mine.txt").write_text("mine")
    run_step(
        tmp_path / "out", step="try", settings=Knobs(loud=2), inputs={}, work=lambda staging: Outcome(),
        clear=lambda staging: (staging / "half.txt").unlink(),
    )  # fmt: skip
    assert sorted(tree(tmp_path / "out")) == ["mine.txt", "record.json"]


STRANGERS = ["precious.txt", "lock", "begun.json", "seconds.json", "record.json", "crops/a.jpg", ".hidden", "parts/x"]


@pytest.mark.parametrize("place", ["out", "out.partial"])
@pytest.mark.parametrize("name", STRANGERS)
def test_foreign_folder_is_refused_and_kept(tmp_path, place, name):
    path = tmp_path / place / name
    path.parent.mkdir(parents=True)
    path.write_text('{"step": "mine"}')
    before = tree(tmp_path)
    with pytest.raises((WorkspaceError, InputError)):
        once(tmp_path / "out")
    assert tree(tmp_path) == before


def test_files_and_links_at_the_target_are_refused_and_kept(tmp_path):
    for k, name in enumerate(("out", "out.partial")):
        for kind in ("file", "dangling", "link"):
            room = tmp_path / f"{k}{kind}"
            (room / "far").mkdir(parents=True)
            (room / "far" / "precious.txt").write_text("mine")
            if kind == "file":
                (room / name).write_text("mine")
            else:
                (room / name).symlink_to(room / ("far" if kind == "link" else "nowhere"))
            before = tree(room)
            with pytest.raises(WorkspaceError, match=name):
                once(room / "out")
            assert tree(room) == before


@pytest.mark.parametrize("name", ["q.partial", "q.tmp"])
def test_name_of_unfinished_work_is_refused(tmp_path, name):
    with pytest.raises(SettingsError, match=name):
        once(tmp_path / name)
    assert not tree(tmp_path)


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file, with its contents, and every link; without the cache of hashes, which nothing depends on."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or (path.is_file() and path.name != "hashes.sqlite")
    }


def test_input_folder_is_identified_by_its_record(tmp_path):
    made = once(tmp_path / "first")
    second = once(tmp_path / "second", first=tmp_path / "first")
    assert second.inputs == {"first": made.fingerprint}


def test_missing_input_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing.txt does not exist"):
        once(tmp_path / "out", source=tmp_path / "missing.txt")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": "x"}'])
def test_damaged_record_has_advice(tmp_path, text):
    once(tmp_path / "out")
    (tmp_path / "out" / "record.json").write_text(text)
    with pytest.raises(InputError, match=r"damaged.*run its step again"):
        read_record(tmp_path / "out")


def test_folder_without_record_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(WorkspaceError, match="holds no finished work"):
        once(tmp_path / "out")


def test_full_disk_is_a_storage_error(tmp_path):
    def fills(staging: Path) -> Outcome:
        raise OSError(28, "No space left on device", str(staging / "big"))

    with pytest.raises(StorageError, match=r"big: the disk is full"):
        once(tmp_path / "out", fills)


def test_record_has_what_reproduction_needs(tmp_path):
    once(tmp_path / "out", knobs=Knobs(name="y"))
    plain = json.loads((tmp_path / "out" / "record.json").read_text())
    assert plain["settings"] == {"loud": 1, "name": "y"}
    assert {"reappear", "python", "numpy"} <= plain["versions"].keys()
    assert plain["seconds"] >= 0
    assert plain["peak_memory_mb"] > 1


SLOW_STEP = """
import sys, time
from pathlib import Path
from reappear.core import settings
from reappear.pipeline.record import Outcome, run_step

@settings
class Knobs:
    loud: int = 1
    name: str = "x"

def work(staging):
    (staging / "alive").write_text("")
    time.sleep(60)
    return Outcome()

run_step(Path(sys.argv[1]), step="try", settings=Knobs(), inputs={}, work=work)
"""


def test_folder_lock_excludes_processes_and_is_released_on_kill(tmp_path):
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
