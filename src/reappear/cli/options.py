"""Options that come from settings classes: a new field of a part is an option, a line of help, and a recipe key."""

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, get_args, get_origin

import typer
from typer.models import OptionInfo

from reappear.core import ReappearError, SettingsError
from reappear.core.settings import choices_of, members, range_of, without_notes
from reappear.pipeline.settings import Field, Unmet, describe, load_recipe, parse_override, resolve, without_effect

from .plain import PlainCommand

Overrides = dict[str, Any]
Sections = dict[str, list[tuple[str, str]]]

_YES_NO = "YES|NO"
_SETTING = re.compile(
    r"(?<![\w./-])--[a-z][a-z0-9.-]*[a-z0-9]|^[a-z][a-z0-9_.]*(?=:)|(?<![\w./-])[a-z][a-z0-9]*([._][a-z0-9]+)+(?![\w/]|\.\w)"
)
_WORDS = ("yes", "no", "true", "false", "on", "off")


class SettingsCommand(PlainCommand):
    """A command with an option for each field of a settings class.

    A boolean option may have no value: `--flip` is `--flip yes`.
    """

    first: ClassVar[list[tuple[str, str]]]
    sections: ClassVar[Sections]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds `yes` after boolean options without a value; an option may have the underscores of its setting."""
        switches = {flag for option in self.params if option.metavar == _YES_NO for flag in option.opts}
        complete = []
        args = [_dashed(argument) for argument in args]
        for argument, after in zip_longest(args, args[1:]):
            complete += [argument, "yes"] if argument in switches and after not in _WORDS else [argument]
        return list(super().parse_args(ctx, complete))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, options of the command, the most used settings, and the others by part."""
        settings = {flags.split()[0] for rows in [self.first, *self.sections.values()] for flags, _ in rows}
        self.format_parameters(ctx, formatter, hidden=settings, first=self.first)
        for title, rows in self.sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def with_settings(
    command: Callable[..., None],
    where: str,
    shortcuts: Mapping[str, str],
    first: Sequence[str],
    expand: Callable[[Overrides], None],
    excludes: Mapping[str, tuple[str, str]],
) -> tuple[Callable[..., None], type[SettingsCommand]]:
    """Gives `command` one option for each field of a settings class, beside `--config` and `--set`.

    Args:
        command: Takes the resolved settings as its first argument.
        where: The class, as `module:Class`.
        shortcuts: Option prefix → dotted prefix of the setting, such as `{"detector": "ingest.detector"}`.
        first: Options listed first in help.
        expand: Expands shorthands in a recipe or among overrides, such as a file for an extractor.
        excludes: Option of the command → the part whose options cannot stand beside it, and what to type instead.

    Returns:
        The command with its options, and the class that parses them and prints their help.
    """
    module, name = where.split(":")
    cls = getattr(import_module(module), name)
    fields: dict[str, list[Field]] = {}
    for field in describe(cls):
        fields.setdefault(field.path, []).append(field)
    options = {path.replace(".", "__"): path for path in fields}
    flags = {path: _flag(path, shortcuts) for path in fields} | _own_flags(command)

    @functools.wraps(command)
    def typed(**given: Any) -> None:
        overrides: Overrides = dict(parse_override(text) for text in given.pop("set_") or [])
        for parameter, path in options.items():
            value = given.pop(parameter)
            if value is not None:
                overrides[path] = value
        for option, (part, advice) in excludes.items():
            beside = [path for path in overrides if path == part or path.startswith(f"{part}.")]
            if given[option] and beside:
                raise SettingsError(f"--{option} and {_flag(beside[0], shortcuts)} exclude each other; {advice}")
        path = given.pop("config")
        recipe = load_recipe(path) if path else {}
        named = () if path is None else flags.keys() - overrides.keys() - given.keys()
        try:
            for values in (recipe, overrides):
                expand(values)
            resolved = resolve(cls, recipe, overrides)
            if found := without_effect(resolved, overrides):
                raise SettingsError(_no_effect(found, shortcuts))
            command(resolved, **given)
        except ReappearError as error:
            error.args = (as_typed(str(error), flags, named),)
            raise

    typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *_fixed(command),
            _parameter(
                "config",
                Path | None,
                ["--config", "-c"],
                "A YAML recipe with the settings below; none if not given.",
                metavar="FILE",
            ),
            _parameter(
                "set_",
                list[str] | None,
                ["--set"],
                "One setting by its dotted path: --set a.b=3; repeatable.",
                metavar="NAME=VALUE",
            ),
            *(
                _parameter(parameter, str | None, [_flag(path, shortcuts)], "", metavar=_metavar(fields[path][0]))
                for parameter, path in options.items()
            ),
        ]
    )
    rows, sections = _sections(fields, shortcuts, [f"--{name}" for name in first])
    return typed, type("Command", (SettingsCommand,), {"first": rows, "sections": sections})


def as_typed(text: str, flags: Mapping[str, str], recipe: Collection[str] = ()) -> str:
    """A message with its settings as they are typed: the one at its head, and others whose name is no plain word.

    A setting, or an option, may be named by the last parts of its path, as by a step that is one of several.

    Args:
        text: The message.
        flags: Path of each setting → its option.
        recipe: Paths that stand in a recipe: they keep the name that they have there.

    >>> flags = {"correlate.memory": "--correlate.memory", "pretrain.images_per_step": "--pretrain.images-per-step"}
    >>> as_typed("memory: 1MB is too little; give --memory 2MB, or fewer images_per_step", flags)
    '--correlate.memory: 1MB is too little; give --correlate.memory 2MB, or fewer --pretrain.images-per-step'
    """

    def flag(match: re.Match[str]) -> str:
        named = match[0].startswith("--")
        name = match[0].removeprefix("--").replace("-", "_") if named else match[0]
        if named and match[0] in flags.values():
            return match[0]
        inner = [path for path in flags if path.endswith(f".{name}")]
        path = name if name in flags else inner[0] if len(inner) == 1 else ""
        return match[0] if not path or (path in recipe and not named) else flags[path]

    return _SETTING.sub(flag, text)


def _no_effect(found: Unmet, shortcuts: Mapping[str, str]) -> str:
    """The message about an option that does nothing, with what to type."""
    flag = _flag(found.path, shortcuts)
    others = {_flag(path, shortcuts): value for path, value in found.others.items()}
    for other, value in others.items():
        if found.values == (None,) and isinstance(value, str | Path):
            return f"{flag} has no effect beside {other} {value}; leave out one of the two"
    need = " or ".join(_needed(other, value, found.values) for other, value in others.items())
    current = " and ".join(
        f"{other} is {'not given' if value is None else format_default(value)}" for other, value in others.items()
    )
    return f"{flag} has no effect without {need}, and {current}; give {need}, or leave out {flag}"


def _needed(flag: str, current: Any, values: Sequence[str | bool | None]) -> str:
    if values:
        return " or ".join(f"{flag} {'none' if value is None else format_default(value)}" for value in values)
    kinds = {bool: f"{flag} yes", int: f"{flag} above 0", float: f"{flag} above 0", NoneType: flag}
    return kinds.get(type(current), f"another {flag}")


def _dashed(argument: str) -> str:
    """The option with dashes, as those of commands are, where it has the underscores of its setting."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _fixed(command: Callable[..., None]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(command, include_extras=True)
    own = list(inspect.signature(command).parameters.values())[1:]
    return [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in own]


def _own_flags(command: Callable[..., None]) -> dict[str, str]:
    """Options of the command itself, and its arguments, which are named as they are."""
    own = [p.name for p in _fixed(command)]
    hints = typing.get_type_hints(command, include_extras=True)
    options = {name for name in own if any(isinstance(note, OptionInfo) for note in get_args(hints[name])[1:])}
    return {name: f"--{name.replace('_', '-')}" if name in options else name for name in own}


def _parameter(name: str, hint: Any, flags: list[str], text: str, **more: Any) -> inspect.Parameter:
    annotation = Annotated[hint, typer.Option(*flags, help=text, show_default=False, **more)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flag(path: str, shortcuts: Mapping[str, str]) -> str:
    name = path
    for short, long in shortcuts.items():
        if path == long or path.startswith(long + "."):
            name = short + path[len(long) :]
    return "--" + name.replace("_", "-")


def _sections(
    fields: Mapping[str, list[Field]], shortcuts: Mapping[str, str], first: list[str]
) -> tuple[list[tuple[str, str]], Sections]:
    """The rows of help: those of `first`, in that order, and the others by part.

    A setting shared by several kinds of a part is listed once if it is the same in all of them.
    """
    early: dict[str, tuple[str, str]] = {}
    sections: Sections = {}
    for path, same in fields.items():
        flag, part = _flag(path, shortcuts), path.rpartition(".")[0].replace(".", " ")
        kinds: dict[str, list[Field]] = {}
        for field in same:
            kinds.setdefault(field_help(field), []).append(field)
        for text, of in kinds.items():
            names = ", ".join(field.kind for field in of if field.kind)
            title = f"{part}: {names}" if names else part or of[0].section or "settings"
            if flag in first:
                early[flag] = f"{flag} {_metavar(of[0])}", f"({names}) {text}" if names else text
            else:
                rows = sections.setdefault(title[0].upper() + title[1:], [])
                rows.append((f"{flag} {_metavar(of[0])}", text))
    return [early[flag] for flag in first], sections


def field_help(field: Field) -> str:
    """The help text of a setting with its choices or range and its default."""
    facts = ["|".join(choices_of(field.hint)) or range_of(field.hint)]
    if field.default is dataclasses.MISSING:
        facts.append("required")
    elif field.default is not None:
        facts.append(f"default: {format_default(field.default)}")
    if field.operational:
        facts.append("can be changed later")
    shown = "; ".join(fact for fact in facts if fact)
    return f"{field.help}  [{shown}]" if shown else field.help


def format_default(value: Any) -> str:
    """A default as it is written on the command line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return f"[{', '.join(map(format_default, value))}]"
    return str(value) or '""'


def _metavar(field: Field) -> str:
    if field.is_part:
        return "KIND"
    if choices_of(field.hint):
        return "CHOICE"
    plain = [without_notes(member) for member in members(field.hint) if member is not NoneType]
    names = {int: "N", float: "X", bool: _YES_NO, Path: "PATH", str: "TEXT"}
    if len(plain) > 1:
        return "VALUE"
    return names.get(plain[0], "LIST" if get_origin(plain[0]) is tuple else "VALUE")
