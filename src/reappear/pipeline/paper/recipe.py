"""What a table or figure of a paper is made of, as data: rows, columns, and the commands that fill them.

A command is a line that a user could type, of one of `STEPS`. `{name}` in it is a value of the row, a path of `--data`,
or one of

    {out}      the folder of this scale and seed        {shared}   the folder of this scale, for all seeds
    {recipes}  the folder above that of the recipe      {seed}, {row}, {gpus}

It stays one word of the command, whatever is in it; a list becomes several words. Commands are parsed by the command
line of reappear and by nothing else.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from reappear.core import SettingsError, check_name, counted, settings, unknown_name
from reappear.pipeline.settings import load_recipe, resolve

Words = tuple[str, ...]
ScaleName = Literal["full", "tiny"]

STEPS = ("synthesize", "ingest", "embed", "correlate", "pretrain", "finetune", "evaluate")
MEASURES = {"mean_ap": 100.0, "rank_1": 100.0, "seconds": 1.0}  # of a record, and by what it is multiplied
_TORCHRUN = ("torchrun", "--nproc-per-node")
_NAMED = re.compile(r"\{(\w*)\}")
_OWN = ("out", "shared", "recipes", "seed", "row", "gpus")


@settings
class FigureSettings:
    """How the columns are drawn."""

    chart: Annotated[
        Literal["bars", "lines", "embedding"],
        "bars: a group for each row; lines: over the value `x` of each row; embedding: a panel for each row, of the "
        "first column's evaluation",
    ]
    x: Annotated[str, "lines: which value of a row is the x axis"] = ""
    x_label: Annotated[str, "lines: label of the x axis"] = ""
    y_label: Annotated[str, "bars, lines: label of the y axis"] = "mAP in percent"


@settings
class ScaleSettings:
    """The commands at one scale."""

    data: Annotated[dict[str, Any], "name that --data gives a path to → what lies there"] = field(default_factory=dict)
    rows: Annotated[tuple[str, ...], "rows that are run; all if empty"] = ()
    values: Annotated[dict[str, Any], "values for all rows, which may have `{name}` of others"] = field(
        default_factory=dict
    )
    setup: Annotated[tuple[str, ...], "commands before those of the rows; run once"] = ()
    commands: Annotated[tuple[str, ...], "commands of each row"] = ()
    score: Annotated[tuple[str, ...], "commands after those of each row"] = ()


@settings
class PaperSettings:
    """A table or figure of a paper."""

    title: Annotated[str, "what it shows"]
    columns: Annotated[dict[str, Any], "name → FOLDER MEASURE: the step whose record has the value, and which value"]
    rows: Annotated[
        dict[str, Any],
        "name → `label`, `tiny_label` (what stands for it there), `paper` (the published value of each column), and "
        "values of its own, which may have `{name}` of others",
    ]
    figure: Annotated[FigureSettings | None, "how it is drawn; a table alone if not given"] = None
    full: Annotated[ScaleSettings, "with the paper's data"]
    tiny: Annotated[ScaleSettings, "with synthetic data, on one core"]

    def __post_init__(self) -> None:
        for name, where in self.columns.items():
            if len(str(where).split()) != 2 or str(where).split()[1] not in MEASURES:
                raise SettingsError(f"columns: {name} must be FOLDER and one of {', '.join(MEASURES)}, got {where!r}")
        for name, row in self.rows.items():
            check_name(name, "name in rows")
            self._check_row(name, row)
        for scale in (self.full, self.tiny):
            for name in scale.rows:
                if name not in self.rows:
                    raise SettingsError(f"rows: {unknown_name('row', name, list(self.rows))}")
        if self.figure is not None and self.figure.chart == "lines":
            for name in self.rows:
                if not isinstance(self.rows[name].get(self.figure.x), int | float):
                    raise SettingsError(f"rows.{name}.{self.figure.x}: must be a number, the x axis of the figure")

    def _check_row(self, name: str, row: Any) -> None:
        paper = row.get("paper") if isinstance(row, Mapping) else None
        if not isinstance(paper, list) or len(paper) != len(self.columns):
            raise SettingsError(
                f"rows.{name}.paper: must list {counted(len(self.columns), 'value')}, one for each column"
            )
        if not all(value is None or isinstance(value, int | float) for value in paper):
            raise SettingsError(f"rows.{name}.paper: must be numbers, or null where none is published")
        for own in _OWN:
            if own in row:
                raise SettingsError(f"rows.{name}.{own}: this name has a meaning of its own; choose another")

    def at(self, scale: ScaleName) -> ScaleSettings:
        """The commands of a scale."""
        return self.full if scale == "full" else self.tiny

    def label(self, row: str, scale: str) -> str:
        """What a row is called in tables and figures: at scale tiny with what stands for it there, if that is given."""
        label, tiny = str(self.rows[row].get("label", row)), self.rows[row].get("tiny_label")
        return f"{label} (tiny: {tiny})" if scale == "tiny" and tiny is not None else label


@dataclass(frozen=True)
class Arm:
    """A row with a seed.

    Attributes:
        row: Name of the row.
        seed: Its seed.
        commands: What fills it, in order; each as words.
        values: Column → folder and measure.
    """

    row: str
    seed: int
    commands: tuple[Words, ...]
    values: dict[str, tuple[Path, str]]


@dataclass(frozen=True)
class Request:
    """What is asked of a recipe.

    Attributes:
        recipe: The file.
        out: Folder of results.
        scale: "full" or "tiny".
        data: Name → path, of the scale's `data`.
        rows: Rows to run; those of the scale if empty.
        seed: The first seed.
        seeds: How many.
        gpus: Processes of a command that begins with torchrun.
    """

    recipe: Path
    out: Path
    scale: ScaleName = "full"
    data: Mapping[str, str] | None = None
    rows: Sequence[str] = ()
    seed: int = 0
    seeds: int = 1
    gpus: int = 8


def read_recipe(path: Path) -> PaperSettings:
    """Reads the recipe of a table or figure.

    Raises:
        SettingsError: It is not readable, or a field is unknown, missing or wrong.
    """
    try:
        return resolve(PaperSettings, load_recipe(path))
    except SettingsError as error:
        raise error if str(path) in str(error) else SettingsError(f"recipe {path}: {error}") from error


def plan(recipe: PaperSettings, request: Request, *, dry: bool = False) -> list[Arm]:
    """The arms that a request asks for, row by row of each seed, with their commands.

    Args:
        recipe: The recipe.
        request: What is asked of it.
        dry: Nothing will be run: data that is not named stands in the commands as its name in capitals.

    Raises:
        SettingsError: A row, a name of data, or a `{name}` in a command is unknown; or data is not named or not there.
    """
    scale = recipe.at(request.scale)
    for name in request.rows:
        if name not in recipe.rows:
            raise SettingsError(f"rows: {unknown_name('row', name, list(recipe.rows))}")
    given = dict(request.data or {})
    for name in given:
        if name not in scale.data:
            known = list(scale.data)
            more = unknown_name("name", name, known) if known else f"scale {request.scale} takes no data, got {name!r}"
            raise SettingsError(f"data: {more}")
    shared = request.out / request.scale
    arms, used = [], set()
    for seed in range(request.seed, request.seed + request.seeds):
        for row in request.rows or scale.rows or recipe.rows:
            fixed = {
                **{name: given.get(name, name.upper()) for name in scale.data},
                "out": str(shared / f"seed{seed}"),
                "shared": str(shared),
                "recipes": os.path.normpath(request.recipe.parent / ".."),
                "seed": str(seed),
                "row": row,
                "gpus": str(request.gpus),
            }
            values = _Values(fixed, recipe.rows[row] | scale.values)
            commands = tuple(values.words(line) for line in (*scale.setup, *scale.commands, *scale.score))
            used |= values.used
            columns = {name: values.words(str(where)) for name, where in recipe.columns.items()}
            places = {name: (Path(folder), measure) for name, (folder, measure) in columns.items()}
            arms.append(Arm(row, seed, commands, places))
    if not dry:
        _require_data(scale, given, used)
    return arms


def _require_data(scale: ScaleSettings, given: Mapping[str, str], used: set[str]) -> None:
    missing = [f"{name} ({scale.data[name]})" for name in scale.data if name in used and name not in given]
    if missing:
        raise SettingsError(f"data: not named: {'; '.join(missing)}; give --data NAME=PATH for each, or --dry-run")
    for name, path in given.items():
        if not Path(path).exists():
            raise SettingsError(f"data: {name}: {path!r} does not exist; it must be {scale.data[name]}")


class _Values:
    """What stands for each `{name}`.

    Args:
        fixed: Values that are taken as they are.
        own: Those of the row and the scale, which may have `{name}` of others.
    """

    def __init__(self, fixed: Mapping[str, str], own: Mapping[str, Any]) -> None:
        self._fixed, self._own = fixed, own
        self.used: set[str] = set()

    def words(self, line: str) -> Words:
        """The words of a command with their values."""
        out: list[str] = []
        for word in shlex.split(line):
            whole = _NAMED.fullmatch(word)
            value = self._own.get(whole[1]) if whole else None
            out += [self._fill(_text(item)) for item in (value if isinstance(value, list) else [word])]
        return tuple(out)

    def _fill(self, text: str, inside: tuple[str, ...] = ()) -> str:
        return _NAMED.sub(lambda found: self._value(found[1], inside), text)

    def _value(self, name: str, inside: tuple[str, ...]) -> str:
        if name in inside:
            raise SettingsError(f"values: {{{name}}} stands for itself; write it out")
        self.used.add(name)
        if name in self._fixed:
            return self._fixed[name]
        if name not in self._own:
            known = [*self._fixed, *self._own]
            raise SettingsError(f"{{{name}}} in a command: {unknown_name('value', name, known)}")
        return self._fill(_text(self._own[name]), (*inside, name))


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def split_command(words: Words) -> tuple[int | None, str, Words]:
    """Processes (None = no torchrun), step and arguments of a command.

    Raises:
        SettingsError: It is no command of a step.
    """
    processes, rest = None, words
    if words[:2] == _TORCHRUN and len(words) > 4 and words[3] == "-m":
        if not words[2].isdecimal() or not int(words[2]):
            raise SettingsError(f"{shlex.join(words)}: --nproc-per-node must be a number from 1, got {words[2]!r}")
        processes, rest = int(words[2]), words[4:]
    if len(rest) < 2 or rest[0] != "reappear" or rest[1] not in STEPS:
        raise SettingsError(f"{shlex.join(words)[:200]!r} must be `reappear STEP ...`, of the steps {', '.join(STEPS)}")
    return processes, rest[1], rest[2:]
