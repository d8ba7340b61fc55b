"""Options that come from settings classes: a new field of a part is an option, a line of help, and a recipe key.

Nothing of a step is imported before its own command is parsed or asked for help, so `reappear --help` stays quick.
"""

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

from typer import Context
from typer.core import TyperCommand, TyperOption

from reappear.core import SettingsError

_OVERRIDES = "reappear.overrides"


def step_command(settings: str, **shortcuts: str) -> type[TyperCommand]:
    """A command class whose options are the fields of a settings class.

    Args:
        settings: Where the class is, as `module:Class`.
        shortcuts: Option prefix → dotted prefix of the setting, such as `detector="ingest.detector"`.
    """

    class StepCommand(TyperCommand):
        settings_class: ClassVar[str] = settings

        def get_params(self, ctx: Any) -> list[Any]:
            fixed = super().get_params(ctx)
            taken = {name for param in fixed for name in param.opts}
            made = [
                option for option in _options(load_settings_class(settings), shortcuts) if not taken & set(option.opts)
            ]
            return [*fixed, *made]

    return StepCommand


def load_settings_class(where: str) -> type[Any]:
    """Imports `module:Class`."""
    module, name = where.split(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def chosen(ctx: Context, cls: type[Any], recipe: Path | None, assignments: list[str]) -> Any:
    """The settings that the command line, `--config` and `--set` say together; later ones win in that order."""
    from reappear.pipeline.settings import load_recipe, parse_override, resolve

    overrides: dict[str, Any] = dict(parse_override(text) for text in assignments)
    overrides |= ctx.meta.get(_OVERRIDES, {})
    return resolve(cls, load_recipe(recipe) if recipe else {}, overrides)


def _options(cls: type[Any], shortcuts: Mapping[str, str]) -> list[TyperOption]:
    from reappear.pipeline.settings import Field, describe

    fields: dict[str, list[Field]] = {}
    for field in describe(cls):
        fields.setdefault(field.path, []).append(field)
    return [_option(path, same, shortcuts) for path, same in fields.items()]


def _option(path: str, same: list[Any], shortcuts: Mapping[str, str]) -> TyperOption:
    from reappear.pipeline.settings import parse_value

    name = path
    for short, long in shortcuts.items():
        if path == long or path.startswith(long + "."):
            name = short + path[len(long) :]
    flag = "--" + name.replace("_", "-")
    kinds = [field.kind for field in same if field.kind]
    said = same[0].help if len({field.help for field in same}) == 1 else "; ".join(f"{f.kind}: {f.help}" for f in same)
    default = _said_default(same)
    if get_origin(same[0].type) is Literal:
        said += f" [{' | '.join(map(str, get_args(same[0].type)))}]"
    panel = name.partition(".")[0] if "." in name else None
    help_text = (
        (f"({', '.join(kinds)}) " if kinds and "." in name else "")
        + said
        + (f"  [default: {default}]" if default else "")
    )

    def keep(ctx: Context, param: Any, value: str | None) -> None:
        if value is not None:
            ctx.meta.setdefault(_OVERRIDES, {})[path] = parse_value(value)

    return TyperOption(
        param_decls=[path.replace(".", "__"), flag],
        type=str,
        metavar=_metavar(same[0].type),
        callback=keep,
        expose_value=False,
        help=help_text,
        rich_help_panel=f"Options of {panel}" if panel else "Settings",
    )


def _said_default(same: list[Any]) -> str:
    values = {
        str(field.default) for field in same if field.default is not dataclasses.MISSING and field.default is not None
    }
    return values.pop() if len(values) == 1 else ""


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "KIND"
    plain = [
        h
        for h in (get_args(hint) if get_origin(hint) not in (None, tuple, list, dict) else (hint,))
        if h is not type(None)
    ]
    first = plain[0] if plain else hint
    return {int: "N", float: "X", bool: "YES/NO", Path: "PATH"}.get(first, "VALUE")


def one_part(ctx: Context, path: str) -> str | None:
    """What the user named for the part at `path`, before any part is built."""
    value = ctx.meta.get(_OVERRIDES, {}).get(path)
    return None if value is None else str(value)


def replace_part(ctx: Context, path: str, plain: Mapping[str, Any]) -> None:
    """Puts plain settings in the place of a shorthand such as `--extractor model.onnx`."""
    overrides = ctx.meta.setdefault(_OVERRIDES, {})
    if not isinstance(overrides.get(path), str):
        raise SettingsError(f"{path}: expected a name or a file, got {overrides.get(path)!r}")
    overrides[path] = dict(plain)
