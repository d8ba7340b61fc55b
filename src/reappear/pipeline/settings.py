"""From a recipe and overrides to a settings dataclass, and back to plain data.

A recipe is YAML with the fields of one settings class, and may stand on another. `--set a.b=3` overrides one field by
its dotted path. `kind` selects the member of a union of parts; naming another `kind` starts from the defaults of that
part.

A value in a recipe or on the command line is text until the type of its field is known: `on` is a word where a field
takes text, and yes where it takes yes or no; numbers are decimal.

`to_plain` is complete, for records and pages. What a result is known by is `result_settings`, without those settings
that are marked OPERATIONAL (see `core.settings`).
"""

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_origin

import yaml

from reappear.core import OPERATIONAL, InputError, Only, SettingsError, read_text, unknown_name
from reappear.core.settings import members, notes, without_notes

T = TypeVar("T")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_YES_NO = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MAX_RECIPE_BYTES = 1_000_000
_MAX_DEPTH = 50
_MAX_BASES = 20


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting, as help and documentation show it.

    Attributes:
        path: Dotted path, such as `detector.score`.
        help: What it means.
        hint: Its type, with the range.
        default: Its default; `dataclasses.MISSING` where it must be given.
        kind: For the fields of a part: the part's `kind`.
        is_part: Whether it chooses a part by its `kind`.
        section: Heading in help; "" = none of its own.
        operational: Whether it, or the part that it belongs to, is marked OPERATIONAL.
    """

    path: str
    help: str
    hint: Any
    default: Any
    kind: str | None = None
    is_part: bool = False
    section: str = ""
    operational: bool = False


class _RecipeLoader(yaml.BaseLoader):
    """Reads every scalar as text, except null. Refuses keys that are not names or stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "keys must be names", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


_NULL = "tag:yaml.org,2002:null"
_RecipeLoader.add_implicit_resolver(_NULL, re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_RecipeLoader.add_constructor(_NULL, lambda loader, node: None)


def load_recipe(path: Path) -> dict[str, Any]:
    """Reads a YAML recipe. Under `base` it may name another beside it, whose values are the defaults.

    Returns:
        Mappings and lists of text and None.

    Raises:
        SettingsError: It is missing, no regular file, larger than 1 MB, not YAML, not a mapping, or its own base; it
            has aliases, a key twice, or is nested deeper than 50.
    """
    recipe = _read_recipe(path)
    chain = {path.resolve(): recipe}
    while (base := recipe.pop("base", None)) is not None:
        if not isinstance(base, str):
            raise SettingsError(f"recipe {path}: base must be the path of a recipe")
        path = path.parent / base
        recipe = _read_recipe(path)
        if path.resolve() in chain:
            raise SettingsError(f"recipe {path} is its own base")
        chain[path.resolve()] = recipe
        if len(chain) > _MAX_BASES:
            raise SettingsError(f"recipe {path} is base number {_MAX_BASES}; a chain of bases must be shorter")
    out: dict[str, Any] = {}
    for recipe in reversed(chain.values()):
        out = _over(out, recipe)
    return out


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below`, overridden by `above`; a part of another kind is replaced as a whole."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        if isinstance(old, dict) and isinstance(value, str):
            value = {"kind": value}
        elif isinstance(old, str) and isinstance(value, dict):
            old = {"kind": old}
        if isinstance(old, dict) and isinstance(value, dict) and value.get("kind") in (None, old.get("kind")):
            out[key] = _over(old, value)
        else:
            out[key] = value
    return out


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        plain = _load_yaml(read_text(path, max_bytes=_MAX_RECIPE_BYTES))
    except InputError as error:
        raise SettingsError(f"recipe {error}") from error
    except yaml.YAMLError as error:
        what = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise SettingsError(f"recipe {path} is not YAML: {what}") from error
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        raise SettingsError(f"recipe {path} must hold `name: value` lines, got a {type(plain).__name__}")
    return plain


def _load_yaml(text: str) -> Any:
    """Mappings and lists of text and None. Memory stays in proportion to the text: there are no aliases."""
    depth = 0
    for event in yaml.parse(text, _RecipeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {_MAX_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"the alias *{event.anchor} is not allowed; write its value out, or use base")
    return yaml.load(text, _RecipeLoader)  # noqa: S506 (text, lists and mappings only)


def parse_override(text: str) -> tuple[str, str]:
    """`a.b=3` → `("a.b", "3")`."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise SettingsError(f"--set takes name=value, got {text!r}")
    return path, value


def parse_value(text: str, hint: Any) -> Any:
    """The value that a text is for a field of this type; what does not fit stays text, for the field to refuse."""
    kinds = {without_notes(member) for member in members(hint)}
    if kinds & {int, float} and _NUMBER.fullmatch(text):
        return _number(text)
    if NoneType in kinds and not kinds & {str, Path} and text in ("null", "none", "~", ""):
        return None
    if {get_origin(kind) for kind in kinds} & {tuple, dict}:
        try:
            return _load_yaml(text)
        except yaml.YAMLError:
            return text
    return text


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # a fraction, or thousands of digits
        return float(text)


def _untyped(value: Any) -> Any:
    """A value of a mapping whose values may be anything: numbers, yes and no where the text reads so."""
    if isinstance(value, Mapping):
        return {key: _untyped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_untyped(item) for item in value]
    if isinstance(value, str):
        return _number(value) if _NUMBER.fullmatch(value) else _YES_NO.get(value.lower(), value)
    return value


def resolve(cls: type[T], recipe: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None) -> T:
    """Builds `cls` from a recipe and dotted overrides.

    Raises:
        SettingsError: An unknown key (with the nearest known one), a wrong type, or a missing value.
    """
    plain: dict[str, Any] = _copy(cls, recipe or {})
    # `kind` before the fields of its part, so that "--detector.score 0.3 --detector yolox" works in any order.
    for path, value in sorted(
        (overrides or {}).items(), key=lambda item: (item[0].count("."), not item[0].endswith("kind"))
    ):
        _put(cls, plain, path, value)
    _refuse_unknown(cls, plain, "")
    return _build(cls, plain, "")


@dataclasses.dataclass(frozen=True)
class Unmet:
    """A setting without effect, and the others, dotted path → value, of which it needs one of `values`.

    See `core.settings.Only`.
    """

    path: str
    others: dict[str, Any]
    values: tuple[str | bool | None, ...]


def without_effect(settings: Any, given: Iterable[str]) -> Unmet | None:
    """The first of the `given` settings, dotted paths, that has no effect under the values of the others."""
    for path in given:
        *parents, name = path.split(".")
        part = _inside(settings, parents)
        hint = typing.get_type_hints(type(part), include_extras=True).get(name)
        for only in notes(hint):
            if isinstance(only, Only):
                others = {name: _inside(part, name.split(".")) for name in only.other.split(" or ")}
                off = only.values in ((), (None,)) and not getattr(part, name)
                if not (off or any(map(only.holds, others.values()))):
                    return Unmet(path, {".".join([*parents, of]): now for of, now in others.items()}, only.values)
    return None


def _inside(part: Any, names: Iterable[str]) -> Any:
    for name in names:
        part = getattr(part, name)
    return part


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


def operational_names(settings: Any) -> tuple[str, ...]:
    """Dotted names of the settings that are marked OPERATIONAL, parts of them included; none of plain data."""
    if not dataclasses.is_dataclass(settings):
        return ()
    hints = typing.get_type_hints(type(settings), include_extras=True)
    names: list[str] = []
    for f in dataclasses.fields(settings):
        if OPERATIONAL in notes(hints[f.name]):
            names.append(f.name)
        else:
            names += (f"{f.name}.{inner}" for inner in operational_names(getattr(settings, f.name)))
    return tuple(names)


def leave_out(plain: Any, names: Iterable[str]) -> Any:
    """Plain data without the entries of these dotted names; a name that is not there is passed over."""
    if not isinstance(plain, Mapping):
        return plain
    inside: dict[str, list[str]] = {}
    for name in names:
        first, _, rest = name.partition(".")
        inside.setdefault(first, []).append(rest)
    return {k: leave_out(v, inside.get(k, ())) for k, v in plain.items() if "" not in inside.get(k, ())}


def result_settings(settings: Any) -> Any:
    """The settings that a result depends on, as plain data: what a fingerprint is made of."""
    return leave_out(to_plain(settings), operational_names(settings))


def describe(
    cls: type[Any], prefix: str = "", kind: str | None = None, base: object = None, operational: bool = False
) -> list[Field]:
    """All settings of `cls`, depth first, with those of its parts.

    Args:
        cls: A settings class.
        prefix: Of the paths.
        kind: Of the part that `cls` is.
        base: An instance whose values are the defaults, where they are not those of `cls`.
        operational: Whether the part that `cls` is is marked OPERATIONAL.
    """
    out: list[Field] = []
    hints = typing.get_type_hints(cls, include_extras=True)
    base = base if type(base) is cls else None
    for f in dataclasses.fields(cls):
        hint = hints[f.name]
        text = " ".join(note for note in notes(hint) if isinstance(note, str))
        path = prefix + f.name
        parts = _parts(hint)
        marked = operational or OPERATIONAL in notes(hint)
        default = getattr(base, f.name) if base else _default(f)
        if not parts:
            if f.name != "kind":
                out.append(Field(path, text, hint, default, kind, section=_section(cls, f.name), operational=marked))
            continue
        if len(parts) > 1 or "kind" in {x.name for x in dataclasses.fields(parts[0])}:
            names = tuple(_kind_of(part) for part in parts)
            chosen = None if default is None else getattr(default, "kind", dataclasses.MISSING)
            out.append(Field(path, text, Literal[names], chosen, kind, is_part=True, operational=marked))
        for part in parts:
            out += describe(part, path + ".", _kind_of(part) or kind, default, marked)
    return out


def _section(cls: type[Any], name: str) -> str:
    """The heading of the group of settings, a base of `cls`, that declares a field; `cls` may change its default."""
    owners = (base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))
    return next((str(vars(owner)["section"]) for owner in owners if "section" in vars(owner)), "")


def _parts(hint: Any) -> list[type[Any]]:
    """The settings classes that a field may hold; none for a plain value."""
    plain = (without_notes(member) for member in members(hint))
    return [member for member in plain if dataclasses.is_dataclass(member) and isinstance(member, type)]


def _kind_of(part: type[Any]) -> str:
    hint = typing.get_type_hints(part).get("kind")
    return str(typing.get_args(hint)[0]) if hint is not None else ""


def _build(cls: type[T], plain: Mapping[str, Any], prefix: str, base: object = None) -> T:
    """Parts first, each as the class that its `kind` names, so that an error speaks of that class alone.

    A part that is given in part keeps the other values of its default, where that is of the same class.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    base = base if type(base) is cls else None
    values = {name: getattr(base, name) for name in fields} if base else {}
    for key, value in plain.items():
        default = getattr(base, key) if base else _default(fields[key])
        chosen = _choose(_parts(hints[key]), value, default) if isinstance(value, Mapping) else None
        if chosen is not None:
            values[key] = _build(chosen, value, f"{prefix}{key}.", default)
        else:
            values[key] = parse_value(value, hints[key]) if isinstance(value, str) else value
            if isinstance(values[key], Mapping):
                values[key] = _untyped(values[key])
    try:
        return cls(**values)
    except SettingsError as error:  # its message begins with the name of the field
        raise SettingsError(f"{prefix}{error}") from error


def _default(field: "dataclasses.Field[Any]") -> Any:
    """The default of a field; `dataclasses.MISSING` where it has none."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _copy(cls: type[Any] | None, plain: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which a part that is given by its kind alone, as `method: cion`, is a mapping."""
    hints = typing.get_type_hints(cls, include_extras=True) if cls else {}
    out: dict[str, Any] = {}
    for key, value in plain.items():
        parts = _parts(hints[key]) if key in hints else []
        if parts and _kind_of(parts[0]) and isinstance(value, str):
            value = {"kind": value}
        chosen = _choose(parts, value, None) if parts and isinstance(value, Mapping) else None
        out[key] = _copy(chosen, value) if isinstance(value, Mapping) else value
    return out


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
        inner = plain[head] = {}
    field = {f.name: f for f in dataclasses.fields(cls)}.get(head)
    chosen = _choose(parts, inner, _default(field) if field else None)
    if chosen is None:
        inner[rest] = value
    else:
        _put(chosen, inner, rest, value)


def _choose(parts: list[type[Any]], plain: Mapping[str, Any], default: Any) -> type[Any] | None:
    """The part of this kind; where none is named, the only one with the settings that are given, else the default's."""
    if len(parts) == 1:
        return parts[0]
    kind = plain.get("kind", getattr(default, "kind", None))
    chosen = next((part for part in parts if _kind_of(part) == kind), None)
    if "kind" not in plain:
        fitting = [part for part in parts if plain.keys() <= {field.name for field in dataclasses.fields(part)}]
        if chosen not in fitting and len(fitting) == 1:
            return fitting[0]
    return chosen


def _refuse_unknown(cls: type[Any], plain: Mapping[str, Any], prefix: str, others: Sequence[type[Any]] = ()) -> None:
    """Raises SettingsError for a key that `cls` has not; `others` are the parts that could stand in its place."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key, value in plain.items():
        if key not in fields:
            if kinds := [_kind_of(part) for part in others if key in {f.name for f in dataclasses.fields(part)}]:
                part, these = prefix.rstrip("."), ", ".join(kinds)
                raise SettingsError(
                    f"{prefix}{key}: is a setting of {part} {these}, and {part} is {_kind_of(cls)} here; leave it out, "
                    f"or choose {part} {these}"
                )
            raise SettingsError(unknown_name("setting", f"{prefix}{key}", [prefix + name for name in fields]))
        parts = _parts(hints[key])
        if not parts or not isinstance(value, Mapping):
            continue
        names = [_kind_of(part) for part in parts]
        if "kind" in value and value["kind"] not in names:
            raise SettingsError(f"{prefix}{key}: {unknown_name('kind', value['kind'], names)}")
        if (chosen := _choose(parts, value, _default(fields[key]))) is None:
            raise SettingsError(f"{prefix}{key}.kind: must be given, one of {', '.join(names)}")
        _refuse_unknown(chosen, value, f"{prefix}{key}.", parts)
