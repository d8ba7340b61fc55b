"""Settings that change no result: they are marked, and a change of them costs nothing. All others are refused."""

import itertools
from dataclasses import field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pytest

from reappear.cli.app import COMMANDS
from reappear.core import OPERATIONAL, InputError, SettingsError, WorkspaceError, settings
from reappear.core.settings import choices_of
from reappear.pipeline.contents import hash_value
from reappear.pipeline.evaluate.vectors import VectorSettings
from reappear.pipeline.record import Outcome, Record, read_record, run_step
from reappear.pipeline.settings import Field, describe, operational_names, resolve, result_settings, to_plain

# `run` and `demo` have the records of their steps; the last three have none.
STEPS = [
    name
    for name, entry in COMMANDS.items()
    if entry.settings and name not in ("run", "demo", "report", "search", "render")
]
CLASSES = {
    **{name: getattr(import_module("reappear.pipeline." + module), cls)
       for name in STEPS for module, _, cls in [COMMANDS[name].settings.partition(":")]},
    "vectors": VectorSettings,
}  # fmt: skip
VALUES = ["2", "1", "3", "0", "0.5", "0.25", "7", "96", "192", "cpu", "8GB", "0.3,0.3", "yes", "no", "{a: 1}"]
VALUES += ["[0.01]", "[0.2, 0.3]", "[0.1, 0.2, 0.3]", "[[0, 1]]"]


def given_for(cls: type[Any], field: Field) -> dict[str, str]:
    """What must be given so that the part which has this field is made."""
    chosen = {other.path for other in describe(cls) if other.is_part}
    part = field.path.rpartition(".")[0]
    while field.kind and part and part not in chosen:  # settings in groups inside a part
        part = part.rpartition(".")[0]
    return {part: field.kind, **required(cls, part, field.kind)} if field.kind and part else {}


def required(cls: type[Any], part: str, kind: str) -> dict[str, str]:
    inside = [other for other in describe(cls) if other.path.rpartition(".")[0] == part and other.kind == kind]
    given = {other.path: "x" for other in inside if not isinstance(other.default, int | float | str | tuple | None)}
    return given | ({"views.local_views": "0"} if kind in ("moco", "upreid") else {})


def changed(cls: type[Any], field: Field) -> tuple[Any, Any]:
    """Two valid settings that differ in this field alone."""
    given = given_for(cls, field)
    base = resolve(cls, {}, given)
    for value in itertools.chain(choices_of(field.hint), VALUES):
        more = required(cls, field.path, value) if field.is_part else {}
        try:
            other = resolve(cls, {}, given | more | {field.path: value})
        except SettingsError:
            continue
        if other != base:
            return base, other
    raise AssertionError(f"{field.path}: add a valid value to VALUES")


def do(folder: Path, given: Any) -> Record:
    def work(staging: Path) -> Outcome:
        (staging / "result.txt").write_text("42")
        return Outcome()

    return run_step(folder, step="try", settings=given, inputs={}, work=work)


def stop(folder: Path, given: Any) -> int:
    """Work that is stopped again each time; returns how often, with this time."""

    def work(staging: Path) -> Outcome:
        with (staging / "stops").open("a") as file:
            file.write(".")
        raise InputError("stopped")

    with pytest.raises(InputError, match="stopped"):
        run_step(folder, step="try", settings=given, inputs={}, work=work)
    return (folder.with_name(f"{folder.name}.partial") / "stops").stat().st_size


@pytest.mark.parametrize("name", CLASSES)
def test_each_setting_changed_after_a_step_was_finished_and_stopped(tmp_path: Path, name: str) -> None:
    """Each kind of part has two folders, with a finished and a stopped step, which are called with one change each."""
    cls, bases = CLASSES[name], list[Any]()
    for setting in describe(cls):
        base, other = changed(cls, setting)
        if base not in bases:
            bases.append(base)
        finished, stopped = (tmp_path / f"{word}{bases.index(base)}" for word in ("finished", "stopped"))
        if not finished.exists():
            do(finished, base)
            stop(stopped, base)
        if setting.operational:
            assert do(finished, other).already_done, setting.path
            assert stop(stopped, other) > 1, setting.path
        else:
            for folder in (finished, stopped):
                with pytest.raises(WorkspaceError, match=rf"another {setting.path}[. ]"):
                    do(folder, other)
    for number, base in enumerate(bases):
        one, other = do(tmp_path / f"finished{number}", base), do(tmp_path / f"stopped{number}", base)
        assert one.already_done
        assert one.fingerprint == other.fingerprint
        assert (tmp_path / f"stopped{number}" / "stops").exists()
        assert one.is_consistent
        assert read_record(tmp_path / f"stopped{number}").is_consistent


def test_what_is_marked() -> None:
    """A new name here is a promise about results; see `core.settings`."""
    assert {
        setting.path.rpartition(".")[2] for cls in CLASSES.values() for setting in describe(cls) if setting.operational
    } == {
        "address",
        "bad_steps",
        "batch",
        "checkpoint_every",
        "device",
        "engine",
        "gradient_checkpointing",
        "keep_checkpoints",
        "log_every",
        "memory",
        "memory_mb",
        "threads",
        "tracker",
        "workers",
    }


@settings
class Inner:
    threads: Annotated[int, "threads", OPERATIONAL] = 1
    size: Annotated[int, "size"] = 3


@settings
class Outer:
    part: Annotated[Inner, "a part"] = Inner()
    place: Annotated[Inner, "where", OPERATIONAL] = Inner()
    arguments: Annotated[dict[str, Any], "anything"] = field(default_factory=dict)


def test_marks_of_parts_and_in_parts() -> None:
    outer = Outer(arguments={"place": 1, "threads": 2})
    assert operational_names(outer) == ("part.threads", "place")
    assert result_settings(outer) == {"part": {"size": 3}, "arguments": {"place": 1, "threads": 2}}
    assert to_plain(outer)["place"] == {"threads": 1, "size": 3}
    assert {field.path for field in describe(Outer) if field.operational} == {
        "part.threads", "place.threads", "place.size",
    }  # fmt: skip


def test_a_record_has_every_setting_and_names_those_that_do_not_count(tmp_path: Path) -> None:
    record = do(tmp_path / "out", Outer())
    assert record.settings == to_plain(Outer())
    assert read_record(tmp_path / "out").operational == ("part.threads", "place")


def test_a_record_from_before_a_setting_was_marked_still_counts(tmp_path: Path) -> None:
    """Its fingerprint is over all settings; what later steps know it by stays."""
    before = do(tmp_path / "out", to_plain(Outer()))
    assert before.operational == ()
    again = do(tmp_path / "out", Outer(place=Inner(threads=9)))
    assert again.already_done
    assert again.fingerprint == before.fingerprint
    with pytest.raises(WorkspaceError, match=r"another part.size \(3, now 4\)"):
        do(tmp_path / "out", Outer(part=Inner(size=4)))


def test_vectors_of_a_set_have_one_folder_whatever_the_threads(tmp_path: Path) -> None:
    one, other = ({"extractor": "onnx", "extractor.weights": "w", "extractor.threads": n} for n in ("1", "2"))
    hashes = {hash_value(result_settings(resolve(VectorSettings, {}, given)), root=tmp_path) for given in (one, other)}
    assert len(hashes) == 1
