"""Collects what the arms of a recipe found, and writes it as a table."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reappear.core import InputError, WorkspaceError
from reappear.pipeline.record import read_record
from reappear.store import write_texts

from .recipe import MEASURES, Arm, PaperSettings

_MARK = '"generator": "reappear"'
ENDINGS = (".json", ".md", ".csv", ".svg")
_TINY = (
    "Synthetic worlds stand for the data sets, and small networks for the paper's: compare the rows with each other, "
    "not with the paper."
)


@dataclass(frozen=True)
class Results:
    """The values of a table.

    Attributes:
        values: Row → column → value of each seed, in the order of seeds; without those that failed.
        broken: What failed: row, seed and reason.
    """

    values: dict[str, dict[str, list[float]]]
    broken: list[tuple[str, int, str]]


def collect(recipe: PaperSettings, arms: Sequence[Arm], failures: Mapping[tuple[str, int], str]) -> Results:
    """Reads the values of all arms from the records of their steps."""
    values: dict[str, dict[str, list[float]]] = {row: {name: [] for name in recipe.columns} for row in recipe.rows}
    broken = []
    for arm in arms:
        reason = failures.get((arm.row, arm.seed))
        try:
            found = {} if reason else {name: _measure(*where) for name, where in arm.values.items()}
        except InputError as error:
            found, reason = {}, str(error)
        if reason:
            broken.append((arm.row, arm.seed, reason))
        for name, value in found.items():
            values[arm.row][name].append(value)
    return Results(values, broken)


def _measure(folder: Path, measure: str) -> float:
    record = read_record(folder)
    value = record.seconds if measure == "seconds" else record.counts.get(measure)
    if value is None:
        raise InputError(f"{folder} has no {measure}; it must be an evaluation")
    return MEASURES[measure] * value


def require_own_files(folder: Path, name: str) -> None:
    """Raises WorkspaceError if one of the files that would be written exists and was not written by this command.

    Raises:
        WorkspaceError: See above.
    """
    there = [path for ending in ENDINGS if (path := folder / f"{name}{ending}").exists()]
    try:
        ours = _MARK in (folder / f"{name}.json").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        ours = False
    if there and not ours:
        raise WorkspaceError(f"{there[0]} exists and was not written by reappear; move it, or choose another --out")


def write_results(
    folder: Path, name: str, recipe: PaperSettings, results: Results, facts: Mapping[str, Any], svg: str | None
) -> str:
    """Writes NAME.md, .json, .csv, and .svg where there is a figure, together; returns the Markdown."""
    text = markdown(name, recipe, results, facts, figure=svg is not None)
    rows = [
        {
            "row": row,
            "label": recipe.label(row, facts["scale"]),
            "column": column,
            "values": results.values[row][column],
            "paper": paper,
        }
        for row in recipe.rows
        for column, paper in zip(recipe.columns, recipe.rows[row]["paper"], strict=True)
    ]
    broken = [{"row": row, "seed": seed, "reason": reason} for row, seed, reason in results.broken]
    plain = {"generator": "reappear", "name": name, "title": recipe.title, **facts, "cells": rows, "broken": broken}
    files = {
        folder / f"{name}.json": json.dumps(plain, indent=2, allow_nan=False) + "\n",
        folder / f"{name}.md": text,
        folder / f"{name}.csv": _csv(rows),
    }
    if svg is not None:
        files[folder / f"{name}.svg"] = svg
    write_texts(files)
    return text


def markdown(
    name: str, recipe: PaperSettings, results: Results, facts: Mapping[str, Any], *, figure: bool = False
) -> str:
    """The table: each column with the paper's beside it, as mean ± standard deviation over seeds."""
    scale = facts["scale"]
    head = ["", *(cell for column in recipe.columns for cell in (column, "paper"))]
    lines = [f"# {recipe.title}", "", f"Scale {scale}, seeds {', '.join(map(str, facts['seeds']))}."]
    if scale == "tiny":
        lines += [_TINY]
    if figure:
        lines += ["", f"![{recipe.title}]({name}.svg)"]
    lines += ["", _line(head), _line(["---"] * len(head))]
    for row, of in recipe.rows.items():
        cells = [recipe.label(row, scale)]
        for column, paper in zip(recipe.columns, of["paper"], strict=True):
            cells += [format_values(results.values[row][column]), "–" if paper is None else f"{paper:g}"]
        lines.append(_line(cells))
    if results.broken:
        lines += ["", "Not filled:", ""]
        for row, seed, reason in results.broken:
            lines.append(f"- {recipe.label(row, scale)}, seed {seed}: {reason}")
    return "\n".join([*lines, ""])


def format_values(values: Sequence[float]) -> str:
    """Mean and standard deviation; "–" for none."""
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["row", "column", "paper", "mean", "values"])
    for row in rows:
        values = row["values"]
        mean = statistics.fmean(values) if values else ""
        paper = "" if row["paper"] is None else row["paper"]
        table.writerow([row["label"], row["column"], paper, mean, " ".join(f"{value:.4f}" for value in values)])
    return out.getvalue()
