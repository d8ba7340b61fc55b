"""Options that come from settings classes: a new field of a part is an option, a line of help, and a recipe key."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand

from reappear.pipeline.settings import Field, describe, load_recipe, parse_override, parse_value, resolve

Overrides = dict[str, Any]

_YES_NO = "YES|NO"
_WORDS = ("yes", "no", "true", "false", "on", "off")


class YesUnlessNo(TyperCommand):
    """A command whose options for yes or no may stand alone: `--flip` is `--flip yes`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Says the yes that was meant."""
        asked = {flag for option in self.params if option.metavar == _YES_NO for flag in option.opts}
        said = []
        for argument, after in zip_longest(args, args[1:]):
            said += [argument, "yes"] if argument in asked and after not in _WORDS else [argument]
        return list(super().parse_args(ctx, said))


def with_settings(
    command: Callable[..., None], where: str, shortcuts: Mapping[str, str], expand: Callable[[Overrides], None]
) -> Callable[..., None]:
    """Gives `command` one option for each field of a settings class, beside `--config` and `--set`.

    Args:
        command: Takes the resolved settings as its first argument.
        where: The class, as `module:Class`.
        shortcuts: Option prefix → dotted prefix of the setting, such as `{"detector": "ingest.detector"}`.
        expand: Turns shorthands among the overrides, such as a file for an extractor, into full settings.
    """
    module, name = where.split(":")
    cls = getattr(import_module(module), name)
    fields: dict[str, list[Field]] = {}
    for field in describe(cls):
        fields.setdefault(field.path, []).append(field)
    options = {path.replace(".", "__"): path for path in fields}

    @functools.wraps(command)
    def typed(**given: Any) -> None:
        overrides: Overrides = dict(parse_override(text) for text in given.pop("set_") or [])
        for parameter, path in options.items():
            value = given.pop(parameter)
            if value is not None:
                overrides[path] = parse_value(value)
        expand(overrides)
        recipe = given.pop("config")
        command(resolve(cls, load_recipe(recipe) if recipe else {}, overrides), **given)

    typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *_fixed(command),
            _parameter("config", Path | None, None, ["--config", "-c"], "A YAML recipe with the settings below."),
            _parameter("set_", list[str] | None, None, ["--set"], "One setting by dotted path: --set a.b=3."),
            *(_option(parameter, path, fields[path], shortcuts) for parameter, path in options.items()),
        ]
    )
    return typed


def _fixed(command: Callable[..., None]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(command, include_extras=True)
    own = list(inspect.signature(command).parameters.values())[1:]
    return [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in own]


def _parameter(name: str, hint: Any, default: Any, flags: list[str], said: str, **more: Any) -> inspect.Parameter:
    annotation = Annotated[hint, typer.Option(*flags, help=said, show_default=False, **more)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(parameter: str, path: str, same: list[Field], shortcuts: Mapping[str, str]) -> inspect.Parameter:
    name = path
    for short, long in shortcuts.items():
        if path == long or path.startswith(long + "."):
            name = short + path[len(long) :]
    kinds = ", ".join(field.kind for field in same if field.kind)
    texts = list(dict.fromkeys(field.help for field in same))
    said = texts[0] if len(texts) == 1 else "; ".join(f"{field.kind}: {field.help}" for field in same)
    if get_origin(same[0].type) is Literal:
        said += f" [{'|'.join(map(str, get_args(same[0].type)))}]"
    panel = name.rpartition(".")[0]
    return _parameter(
        parameter,
        str | None,
        None,
        ["--" + name.replace("_", "-")],
        (f"({kinds}) " if kinds and panel else "") + said + _said_default(same),
        metavar=_metavar(same[0].type),
        rich_help_panel=f"Settings of {panel}" if panel else "Settings",
    )


def _said_default(same: list[Field]) -> str:
    values = {str(f.default) for f in same if f.default is not dataclasses.MISSING and f.default is not None}
    return f" [default: {values.pop()}]" if len(values) == 1 else ""


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "CHOICE"
    members = get_args(hint) if get_origin(hint) not in (None, tuple, list, dict) else (hint,)
    plain = [member for member in members if member is not type(None)]
    return {int: "N", float: "X", bool: _YES_NO, Path: "PATH"}.get(plain[0] if plain else hint, "VALUE")
