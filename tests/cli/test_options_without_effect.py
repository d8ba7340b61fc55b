"""An option that would do nothing is refused, and the message says what to type."""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import typer

from reappear.cli.app import COMMANDS, build, main
from reappear.cli.paper import parse
from reappear.core import Only, SettingsError
from reappear.core.settings import choices_of, members, notes, without_notes
from reappear.pipeline.settings import Field, describe, resolve, without_effect
from tests.cli.test_ranges import WITH_SETTINGS, given_for, settings_class

# Help that names a condition which is no `Only`, and why.
OTHERWISE = {
    "guard": "average linkage falls back to closure where there is one video or few tracklets",
    "labels_are_truth": "the kind of input decides, which `ingest` looks at",
}
CONDITION = re.compile(
    r"\bunder --\S|\bwhere [a-z -]+ (is|are) (not )?given|^(re-ranking|average linkage|closure|[a-z]+ thresholds|"
    r"labelled)\b"
)


FIELDS = {command: describe(settings_class(command)) for command in WITH_SETTINGS}


def marked() -> Iterator[tuple[str, Field, Only]]:
    """Command, setting, and what it needs."""
    for command in WITH_SETTINGS:
        for field in FIELDS[command]:
            yield from ((command, field, note) for note in notes(field.hint) if isinstance(note, Only))


MARKED = list(marked())


def text_of(field: Field) -> str:
    """A value that the setting takes."""
    if isinstance(field.default, tuple):
        return f"[{', '.join(map(str, field.default))}]"
    if not field.default and without_notes(field.hint) in (int, float, bool):
        return {bool: "yes", int: "1", float: "0.5"}[without_notes(field.hint)]
    if field.default is not None:
        return str(field.default)
    kinds = {without_notes(member) for member in members(field.hint)}
    return "0.5" if float in kinds else "1"


def unmet_by(other: Field, only: Only) -> str | None:
    """A value of the other setting under which this one has no effect; None: the default."""
    if only.values == (None,):
        return "1"
    if choices_of(other.hint):
        return next((value for value in choices_of(other.hint) if not only.holds(value)), None)
    if without_notes(other.hint) is bool:
        return "yes" if only.values == (False,) else "no"
    if isinstance(other.default, tuple):
        return f"[{', '.join('0' for _ in other.default)}]"
    return "paper" if only.values else None if other.default is None else "0"


def refusal(cls: Any, given: dict[str, Any], path: str) -> str:
    """What is said of a setting that has no effect; "" where it is taken."""
    try:
        found = without_effect(resolve(cls, {}, given), [path])
    except SettingsError as error:
        return str(error)
    return "" if found is None else f"{found.path} {found.others}"


@pytest.mark.parametrize("command", [name for name in WITH_SETTINGS if name != "demo"])  # its settings are those of run
def test_marked_options_are_refused_where_they_have_no_effect(command):
    """Every setting that is marked, typed beside a value of the other under which it does nothing."""
    cls = settings_class(command)
    fields = FIELDS[command]
    for _, field, only in (one for one in MARKED if one[0] == command):
        if command == "run" and "." in field.path:
            continue  # of a step, whose command has it
        prefix = field.path.rpartition(".")[0]
        given = given_for(fields, field)
        for name in only.other.split(" or "):
            path = f"{prefix}.{name}" if prefix else name
            other = next(of for of in fields if of.path == path and of.kind in (field.kind, None))
            value = unmet_by(other, only)
            given |= {} if value is None else {path: value}
        given[field.path] = text_of(field)
        assert path.rpartition(".")[2] in refusal(cls, given, field.path), (field.path, given)


def test_values_that_a_setting_needs_are_those_of_the_other():
    for command, field, only in MARKED:
        prefix = field.path.rpartition(".")[0]
        fields = [of for of in FIELDS[command] if of.path.rpartition(".")[0] == prefix or "." in only.other]
        for name in only.other.split(" or "):
            choices = [choices_of(of.hint) for of in fields if of.path == (f"{prefix}.{name}" if prefix else name)]
            assert choices, (command, field.path, name)
            if any(choices):
                assert set(only.values) <= {value for of in choices for value in of}, (command, field.path)


def test_help_that_names_a_condition_is_held():
    """The next setting whose help says when it counts is marked too."""
    settings = [(command, field) for command in WITH_SETTINGS for field in FIELDS[command]]
    lacking = {
        f"{command}: {field.path}: {field.help}"
        for command, field in settings
        if CONDITION.search(field.help)
        and not any(isinstance(note, Only) for note in notes(field.hint))
        and field.path.rpartition(".")[2] not in OTHERWISE
    }
    assert not lacking, "\n".join(sorted(lacking))


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("evaluate set --out w --query-camera 2", "--split cross-camera"),
        ("evaluate set --out w --set query_camera=2", "--split cross-camera"),
        ("evaluate set --out w --k1 9", "--rerank yes"),
        ("pretrain w --epochs 3", "--steps none"),
        ("pretrain w --validation-share 0.2", "--validation-every above 0"),
        ("pretrain w --validation-every 9", "--validation or --validation-share above 0"),
        ("finetune --data d --validation v --validation-share 0.2", "--validation v; leave out one of the two"),
        ("run films --out w --pretrain.local-height 16", "--pretrain.views.local-views above 0"),
        ("run films --out w --correlate.linking closure --correlate.z 3", "--correlate.linking average"),
    ],
)
def test_message_names_both_options_as_they_are_typed(capsys, tmp_path, monkeypatch, line, needed):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert needed in err
    assert err.count("\n") == 1
    assert "leave out" in err
    command: Any = typer.main.get_command(build(line.split()[0])).commands[line.split()[0]]  # type: ignore[attr-defined]
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert set(re.findall(r"--[a-z0-9.-]+", err)) <= known


def test_recipe_may_hold_settings_that_are_off(tmp_path):
    """A recipe is a base of others, which may switch on what it sets."""
    evaluate = import_module("reappear.pipeline.evaluate").EvaluateSettings
    made = resolve(evaluate, {"k1": "30"})
    assert made.k1 == 30
    assert without_effect(made, ["k1"]) is not None


def test_settings_that_are_off_are_taken():
    parse("finetune", ["--data", "d", "--validation-share", "0", "--validation-every", "0"])


def test_commands_have_settings():
    assert len(MARKED) > 100
    assert set(WITH_SETTINGS) <= set(COMMANDS)
