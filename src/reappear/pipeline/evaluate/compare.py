"""Compares evaluations: one table, and paired differences with bootstrap intervals."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from reappear.core import InputError, Progress, read_json_object
from reappear.metrics import paired_difference
from reappear.pipeline.pages import write_page
from reappear.pipeline.workspace import Workspace
from reappear.store import read_npz

from .settings import EvaluateSettings

Tree = dict[str, Any]

_SPLIT = re.compile(r",split=\d+")
_QUERY_COLUMNS = ("query_ids", "query_cameras", "query_path")


def compare(work: Workspace, names: Sequence[str], settings: EvaluateSettings, *, progress: Progress) -> Path:
    """Writes WORK/evaluation.json and evaluation.html, always anew.

        evaluations   [scores.json of each, ...]
        differences   [{data, first, second, mean_ap, rank_1: {mean, low, high, sign_flip_rate}}, ...]: each against the
                      first on its data set, over the same queries; 95 % bootstrap intervals over people, and the share
                      of resamples in which the difference changes its sign; or why_not instead of numbers
        means         [{set, label, splits, mean_ap, mean_inp, cmc}, ...]: of each model over several splits of one set

    Returns:
        The path of evaluation.json.
    """
    from reappear.pipeline.report.examination import render  # drawing is slow to import

    evaluations = [read_json_object(work.evaluation(name) / "scores.json", "data", "label", "name") for name in names]
    first_of: dict[str, Tree] = {}
    differences = []
    for scores in evaluations:
        first = first_of.setdefault(scores["data"], scores)
        if first is not scores:
            differences.append(_difference(work, first, scores, settings))
    found = {"evaluations": evaluations, "differences": differences, "means": _means(evaluations)}
    write_page(work.root, "evaluation", found, render(work, found, progress=progress))
    return work.root / "evaluation.json"


def _means(evaluations: list[Tree]) -> list[Tree]:
    of_one: dict[tuple[str, str], list[Tree]] = {}
    for scores in evaluations:
        of_one.setdefault((_SPLIT.sub("", scores["data"]), scores["label"]), []).append(scores)
    return [
        {"set": one, "label": label, "splits": len(splits)}
        | {key: np.mean([of[key] for of in splits], axis=0).tolist() for key in ("mean_ap", "mean_inp", "cmc")}
        for (one, label), splits in of_one.items()
        if len({of["data"] for of in splits}) > 1
    ]


def _difference(work: Workspace, first: Tree, second: Tree, settings: EvaluateSettings) -> Tree:
    out: Tree = {"data": first["data"], "first": first["label"], "second": second["label"]}
    arrays = [_arrays(work.evaluation(scores["name"])) for scores in (first, second)]
    if not all(np.array_equal(arrays[0][key], arrays[1][key]) for key in _QUERY_COLUMNS):
        return out | {"why_not": "the two evaluations have different queries"}
    for key, column in (("mean_ap", "ap"), ("rank_1", "first_right")):
        try:
            found = paired_difference(
                arrays[0][column], arrays[1][column], arrays[0]["query_ids"],
                draws=settings.bootstrap, seed=settings.seed,
            )  # fmt: skip
        except InputError:
            return out | {"why_not": "no query has a match in both"}
        out[key] = asdict(found)
    return out


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    keys = (*_QUERY_COLUMNS, "ap", "first_right")
    stored = read_npz(folder / "ranking.npz", *keys)
    if lacking := [key for key in keys if key not in stored]:
        raise InputError(f"{folder / 'ranking.npz'} lacks {', '.join(lacking)}; remove {folder} and evaluate again")
    return stored
