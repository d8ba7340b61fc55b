"""What a settings class is: a frozen dataclass whose fields carry their help and their range.

    @settings
    class MotionSettings:
        kind: Literal["motion"] = "motion"
        history: Annotated[int, "frames that the background model remembers", Interval(ge=1, le=100_000)] = 300

The same class is read from a YAML recipe, shown by `--help`, and written into the record of the step. Types and ranges
are checked whenever an instance is made, defaults included; a number is finite.

A setting that changes how fast something comes out, or with how much memory, but not what, is marked beside its help:

    workers: Annotated[Processes, "processes that prepare views ahead; 0 = none", OPERATIONAL] = 0

It is no part of a fingerprint: a finished step stays finished and an interrupted one goes on when it changes. On a part
the mark counts for all settings in it. Rounding in the last bit, where the help names it, is no other result.

A setting that has an effect only under some values of another names it; on the command line it is refused elsewhere:

    k1: Annotated[int, "re-ranking: size of the neighbourhood", Only("rerank")] = 20
"""

import difflib
import functools
import inspect
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin

from annotated_types import Interval, MultipleOf
from pydantic import AfterValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from .errors import SettingsError

T = TypeVar("T")
_MANY = 30  # names that still fit a message


def _check_rising(pair: tuple[float, float]) -> tuple[float, float]:
    """The lower first."""
    if pair[0] > pair[1]:
        raise ValueError
    return pair


RISING = AfterValidator(_check_rising)  # a pair (low, high) with low <= high
OPERATIONAL: Final = object()  # marks a setting that changes speed or memory, and no result


class Only:
    """Marks a setting that has an effect only under some values of another of the same class. Several marks: all count.

    Where the other has only to be on, or not to be given, the setting may be off (0, no, none) in any case.

    Args:
        other: The other, dotted where it is one of a part: "views.local_views"; or several, one of which is enough:
            "validation or validation_share".
        values: Its values; any but none, no and 0 if not given.

    >>> Only("split", "cross-camera").holds("own"), Only("rerank").holds(True), Only("steps", None).holds(320)
    (False, True, False)
    """

    def __init__(self, other: str, *values: str | bool | None) -> None:
        self.other, self.values = other, values

    def holds(self, value: Any) -> bool:
        """Whether the setting has an effect under this value of the other; of a list in words, "a,b", one is enough."""
        if self.values:
            return value in self.values or (
                isinstance(value, str) and any(of in self.values for of in value.split(","))
            )
        return any(value) if isinstance(value, tuple) else bool(value)


Fraction = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Interval(gt=0)]
NotNegative = Annotated[float, Interval(ge=0)]
Count = Annotated[int, Interval(ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Interval(ge=0, le=1_000_000_000)]
ImageSide = Annotated[int, Interval(ge=1, le=16_384)]  # pixels
Processes = Annotated[int, Interval(ge=0, le=1024)]
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]  # the range of scikit-learn and of NumPy's older generators
BatchSize = Annotated[int, Interval(ge=1, le=65_536)]
Megabytes = Annotated[int, Interval(ge=1, le=1 << 30)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen, keyword-only dataclass whose values are checked.

    Making an instance raises SettingsError, whose message begins with the name of the field, for a value of a wrong
    type or out of its range, a missing value, and an unknown field.
    """
    config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)
    made: type[Any] = dataclass(cls, frozen=True, kw_only=True, config=config)
    checked = made.__init__
    hints = typing.get_type_hints(cls, include_extras=True)

    @functools.wraps(checked)
    def init(self: Any, **given: Any) -> None:
        try:
            checked(self, **given)
        except ValidationError as error:
            raise _explain(error, cls, hints, given) from error

    made.__init__ = init
    return made


def _explain(error: ValidationError, cls: type[Any], hints: dict[str, Any], given: dict[str, Any]) -> SettingsError:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else cls.__name__
    if name not in given and "missing" in first["type"]:
        return SettingsError(f"{name}: must be given, {expected(hints[name])}")
    if name not in hints:
        return SettingsError(unknown_name("setting", name, list(hints)))
    value = given.get(name, first["input"])
    choices = choices_of(hints[name])
    if choices:
        return SettingsError(f"{name}: {unknown_name('choice', value, choices)}")
    return SettingsError(f"{name}: must be {expected(hints[name])}, got {_shortened(value)}")


def unknown_name(what: str, value: object, known: Sequence[str]) -> str:
    """A message about a name that is not among those known: the nearest, and all of them where they are not many."""
    near = difflib.get_close_matches(str(value), known, n=1)
    hints = [f"did you mean {near[0]}?"] if near else []
    if not near or len(known) <= _MANY:
        hints.append(f"known: {', '.join(known)}")
    return f"unknown {what} {_shortened(value)}; {' '.join(hints)}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def members(hint: Any) -> list[Any]:
    """The types of a union, each with its annotations; the type itself where it is none."""
    plain = without_notes(hint)
    return list(get_args(plain)) if get_origin(plain) in (Union, types.UnionType) else [hint]


def without_notes(hint: Any) -> Any:
    """The type inside an `Annotated`."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def notes(hint: Any) -> tuple[Any, ...]:
    """What an `Annotated` says of its type."""
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def choices_of(hint: Any) -> list[str]:
    """The values of a `Literal`, also of an optional one; none for other types."""
    plain = [without_notes(member) for member in members(hint) if member is not type(None)]
    return [str(value) for value in get_args(plain[0])] if len(plain) == 1 and get_origin(plain[0]) is Literal else []


def range_of(hint: Any) -> str:
    """The range of a number, or of each number of a list, in words; "" where there is none."""
    inner = without_notes(hint)
    found = [range_of(member) for member in members(hint)] if get_origin(inner) in (Union, types.UnionType) else []
    if get_origin(inner) is tuple:
        numbers = [part for part in get_args(inner) if get_origin(without_notes(part)) is not tuple]
        found += [f"each {text}" for text in map(range_of, numbers) if text]
    found += [_interval(note) for note in notes(hint) if isinstance(note, Interval)]
    found += [f"a multiple of {note.multiple_of}" for note in notes(hint) if isinstance(note, MultipleOf)]
    for note in notes(hint):
        if isinstance(note, AfterValidator):
            words = inspect.getdoc(note.func) or ""
            found.append(words[:1].lower() + words[1:].rstrip("."))
    return ", ".join(dict.fromkeys(text for text in found if text))


def _interval(span: Interval) -> str:
    ge, gt, le, lt = (f"{bound:.10g}" if bound is not None else "" for bound in (span.ge, span.gt, span.le, span.lt))
    if ge and le:
        return f"{ge} to {le}"
    low = f"{ge} or more" if ge else f"above {gt}" if gt else ""
    high = f"at most {le}" if le else f"below {lt}" if lt else ""
    return ", ".join(text for text in (low, high) if text)


def expected(hint: Any) -> str:
    """What a value of this type is, in words, with its range."""
    kinds = " or ".join(dict.fromkeys(_kind(member) for member in members(hint) if member is not type(None)))
    span = range_of(hint)
    return f"{kinds}, {span}" if span else kinds


def _kind(hint: Any) -> str:
    plain = without_notes(hint)
    if choices_of(plain):
        return f"one of {', '.join(choices_of(plain))}"
    if get_origin(plain) is tuple:
        parts = get_args(plain)
        inner = {int: "whole numbers", float: "numbers"}.get(without_notes(parts[0]), "lists")
        return f"a list of {inner}" if parts[-1] is Ellipsis else f"a list of {len(parts)} {inner}"
    words = {int: "a whole number", float: "a number", bool: "yes or no", str: "text", Path: "a path"}
    return words.get(plain, "a mapping")
