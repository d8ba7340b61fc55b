"""From a recipe and overrides to a settings dataclass, and back to plain data.

A recipe is YAML with the fields of one settings class, and may stand on another. `--set a.b=3` overrides one field by
its dotted path. A union of parts is told apart by `kind`; naming another `kind` starts from that part's own defaults.
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from reappear.core import SettingsError

T = TypeVar("T")
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting, as help and documentation show it.

    Attributes:
        path: Dotted path, such as `detector.score`.
        help: What it means.
        type: Its type, without annotations.
        default: Its default; `dataclasses.MISSING` where it must be given.
        kind: For the fields of a part: the part's `kind`.
    """

    path: str
    help: str
    type: Any
    default: Any
    kind: str | None = None


def load_recipe(path: Path) -> dict[str, Any]:
    """Reads a YAML recipe. Under `base` it may name another beside it, which holds for what it does not say itself.

    Raises:
        SettingsError: It is missing, not YAML, not a mapping, or its own base.
    """
    chain = {path.resolve(): _read_recipe(path)}
    while (base := next(reversed(chain.values())).pop("base", None)) is not None:
        path = path.parent / str(base)
        if path.resolve() in chain:
            raise SettingsError(f"recipe {path} is its own base")
        chain[path.resolve()] = _read_recipe(path)
    out: dict[str, Any] = {}
    for recipe in reversed(chain.values()):
        out = _over(out, recipe)
    return out


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below`, except where `above` says otherwise; a part of another kind is other in whole."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("kind") in (None, old.get("kind")):
            out[key] = _over(old, value)
        else:
            out[key] = value
    return out


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"recipe {path} does not exist") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        raise SettingsError(f"recipe {path} must hold `name: value` lines, got a {type(plain).__name__}")
    return plain


def parse_override(text: str) -> tuple[str, Any]:
    """`a.b=3` → `("a.b", 3)`; values are read as YAML."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise SettingsError(f"--set takes name=value, got {text!r}")
    return path, parse_value(value)


def parse_value(text: str) -> Any:
    """Reads one value as YAML does, except that 1e-3 is a number."""
    if _EXPONENT.fullmatch(text):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def resolve(cls: type[T], recipe: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None) -> T:
    """Builds `cls` from a recipe and dotted overrides.

    Raises:
        SettingsError: An unknown key (with the nearest known one), a wrong type, or a missing value.
    """
    plain: dict[str, Any] = _copy(recipe or {})
    # `kind` before the fields of its part, so that "--detector.score 0.3 --detector yolox" works in any order.
    for path, value in sorted(
        (overrides or {}).items(), key=lambda item: (item[0].count("."), not item[0].endswith("kind"))
    ):
        _put(cls, plain, path, value)
    _refuse_unknown(cls, plain, "")
    return _build(cls, plain, "")


def to_plain(value: Any) -> Any:
    """Settings as plain data for YAML and JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    return value


def describe(cls: type[Any], prefix: str = "", kind: str | None = None) -> list[Field]:
    """All settings of `cls`, depth first, with those of its parts."""
    out: list[Field] = []
    hints = typing.get_type_hints(cls, include_extras=True)
    for f in dataclasses.fields(cls):
        said, plain = _unwrap(hints[f.name])
        path = prefix + f.name
        parts = _parts(plain)
        default = f.default if f.default is not dataclasses.MISSING else f.default_factory
        if callable(default):
            default = default()
        if not parts:
            if f.name != "kind":
                out.append(Field(path, said, plain, default, kind))
            continue
        if len(parts) > 1 or "kind" in {x.name for x in dataclasses.fields(parts[0])}:
            names = tuple(_kind_of(part) for part in parts)
            out.append(Field(path, said, Literal[names], getattr(default, "kind", dataclasses.MISSING), kind))
        for part in parts:
            out += describe(part, path + ".", _kind_of(part) or kind)
    return out


def _unwrap(hint: Any) -> tuple[str, Any]:
    if get_origin(hint) is Annotated:
        plain, *notes = get_args(hint)
        return " ".join(note for note in notes if isinstance(note, str)), plain
    return "", hint


def _parts(hint: Any) -> list[type[Any]]:
    """The settings classes that a field may hold; none for a plain value."""
    _, hint = _unwrap(hint)
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [
        m for m in (_unwrap(member)[1] for member in members) if dataclasses.is_dataclass(m) and isinstance(m, type)
    ]


def _kind_of(part: type[Any]) -> str:
    hint = typing.get_type_hints(part).get("kind")
    return str(get_args(hint)[0]) if hint is not None else ""


def _build(cls: type[T], plain: Mapping[str, Any], prefix: str, base: object = None) -> T:
    """Parts first, each as the class that its `kind` names, so that an error speaks of that class alone.

    A part that is given in part keeps the other values of its default, where that is of the same class.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    base = base if type(base) is cls else None
    values = {name: getattr(base, name) for name in fields} | dict(plain) if base else dict(plain)
    for key, value in plain.items():
        chosen = _choose(_parts(hints[key]), value) if isinstance(value, Mapping) else None
        if chosen is not None:
            default = getattr(base, key) if base else _default(fields[key])
            values[key] = _build(chosen, value, f"{prefix}{key}.", default)
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = prefix + str(first["loc"][0]) if first["loc"] else prefix.rstrip(".") or cls.__name__
        if first["type"] in ("missing", "missing_keyword_only_argument", "missing_argument"):
            raise SettingsError(f"{where} must be given") from error
        raise SettingsError(f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}") from error


def _default(field: "dataclasses.Field[Any]") -> Any:
    """The default of a field; None where it has none."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _copy(plain: Any) -> Any:
    return {k: _copy(v) for k, v in plain.items()} if isinstance(plain, Mapping) else plain


def _put(cls: type[Any], plain: dict[str, Any], path: str, value: Any) -> None:
    head, _, rest = path.partition(".")
    hints = typing.get_type_hints(cls, include_extras=True)
    parts = _parts(hints[head]) if head in hints else []
    if not rest:
        if parts and not isinstance(value, Mapping) and value is not None:
            plain[head] = {"kind": value}
        else:
            plain[head] = value
        return
    inner = plain.get(head)
    if not isinstance(inner, dict):
        field = {f.name: f for f in dataclasses.fields(cls)}.get(head)
        made = _default(field) if field else None
        inner = plain[head] = {"kind": made.kind} if made is not None and hasattr(made, "kind") else {}
    chosen = _choose(parts, inner)
    if chosen is None:
        inner[rest] = value
    else:
        _put(chosen, inner, rest, value)


def _choose(parts: list[type[Any]], plain: Mapping[str, Any]) -> type[Any] | None:
    if len(parts) == 1:
        return parts[0]
    return next((part for part in parts if _kind_of(part) == plain.get("kind")), None)


def _refuse_unknown(cls: type[Any], plain: Mapping[str, Any], prefix: str) -> None:
    hints = typing.get_type_hints(cls, include_extras=True)
    for key, value in plain.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known here: {', '.join(hints)}"
            raise SettingsError(f"unknown setting {prefix}{key}{hint}")
        parts = _parts(hints[key])
        if not parts or not isinstance(value, Mapping):
            continue
        names = [_kind_of(part) for part in parts]
        if "kind" in value and value["kind"] not in names:
            near = difflib.get_close_matches(str(value["kind"]), names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
            raise SettingsError(f"{prefix}{key}: no such kind {value['kind']!r}; {hint}")
        chosen = _choose(parts, value)
        if chosen is not None:
            _refuse_unknown(chosen, value, f"{prefix}{key}.")
