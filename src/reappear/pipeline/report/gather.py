"""Collects the numbers of one or several workspaces from the files of their steps."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from reappear.core import InputError, distinct_names, parse_json, read_json_object, read_text
from reappear.pipeline.doubts import Detection, examine_detection, unclear_identities
from reappear.pipeline.record import Record, read_record
from reappear.pipeline.workspace import Workspace
from reappear.store import CropStore, Identities, read_identities, read_table

Tree = dict[str, Any]

_FOLDERS = ("embeddings", "identities", "models", "evaluations")
_DESCRIPTORS = ("untrained", "instance", "tracklet", "cion", "found", "true_identity", "color")
_MEASURES = ("pairwise", "bcubed")
_SCORES = ("mean_ap", "mean_inp", "cmc", "queries", "valid_queries", "gallery", "reasons", "skipped")
_ABSOLUTE = re.compile(r"(?:^|(?<=[:=]))/(?!/)")  # alone, or after LAYOUT: or KEY=, but in no URL
_CURVES = ("loss", "teacher_entropy", "batch_entropy", "validation_map", "images_per_second")


@dataclass(frozen=True)
class Run:
    """The contents of one workspace.

    Attributes:
        label: Name of its folder, unique among the runs.
        work: The workspace.
        records: Step, such as "ingest" or "embed round0" → its record, in execution order.
        reports: Identities folder of the present crops → its report, rounds in order.
        training: Model → its metrics, one mapping per logged step.
        scores: Evaluation → its scores.
    """

    label: str
    work: Workspace
    records: dict[str, Record]
    reports: dict[str, Tree]
    training: dict[str, list[Tree]]
    scores: dict[str, Tree]

    @cached_property
    def store(self) -> CropStore:
        """The crops."""
        return self.work.open_crops()

    @cached_property
    def detection(self) -> Detection | None:
        """Whether what was found in videos are people; None for other input."""
        return examine_detection(self.store, self.records["ingest"]) if "ingest" in self.records else None

    @cached_property
    def identities(self) -> dict[str, Identities]:
        """Identities of each round, in order."""
        return {name: read_identities(self.work.identities(name)) for name in self.reports}


def read_runs(works: Sequence[Workspace]) -> list[Run]:
    """Reads workspaces; equal folder names get the nearest parent folders that differ as a prefix.

    Raises:
        InputError: The first has no crops, or a file is damaged.
    """
    works[0].open_crops()
    labels = distinct_names([work.root.resolve() for work in works])
    if len(set(labels)) < len(labels):
        raise InputError(f"a workspace is given twice: {', '.join(labels)}; name each once")
    return [_read_run(label, work) for label, work in zip(labels, works, strict=True)]


def numbers(runs: Sequence[Run]) -> Tree:
    """All numbers of the runs, as written to report.json.

    Every LEAF is `{"by_seed": {run: value}, "mean": m, "spread": s}`: one value a run that has it, their mean, and
    their sample standard deviation (null for a single run). Lists are taken element by element. A ROUND is the name of
    an identities folder, in the order of the rounds; a STEP is "ingest", "embed round0", "correlate round0", ...

        summary      what was found in a few sentences; `report` adds it
        runs         [label, ...]; images are of the first
        footage      {videos, cameras, seconds, frames, tracklets, crops, people (if true identities are known): LEAF}
        detection    {run: {detector, moving_regions, videos_without_people, signs, warning}}: whether what was found
                     are people; unclear: {ROUND: identities that may not be, counted}. Videos only
        noise        {ROUND: {stage: LEAF of n_S after the stage}}, Eq. 3 of CION; the first stage is the baseline
        identities   {ROUND: {stage: {identities, crops_discarded, crops_moved, tracklets_merged, ...: LEAF,
                     and where truth is known pairwise and bcubed: {precision, recall, f1: LEAF}, and the other
                     clustering scores of `metrics`}}}
        reach        {ROUND: {videos: {"2": LEAF, ...}}} number of identities by number of videos
        discarded    {ROUND: {crops: LEAF, correctly: LEAF}}; correctly = the true person is not that of most crops of
                     the tracklet, or there is none (if true identities are known)
        retrieval    {descriptor: {protocol and extractor: text, mean_ap, mean_inp, cmc, queries, valid_queries,
                     gallery: LEAF, reasons and skipped: {reason: LEAF}}}; fractions in [0, 1]; `cmc.mean[k-1]` is
                     rank k
        training     {model: {steps: LEAF, first and last: {loss, teacher_entropy, validation_map, ...: LEAF},
                     validation: {run: [[step, mAP], ...]}}}
        dropped      {STEP: {reason: LEAF}}
        counts       {STEP: {what: LEAF}}
        seconds      {STEP: LEAF}
        peak_memory_mb {STEP: LEAF}
        thresholds   {ROUND: {run: thresholds in the report of correlate}}
        review       {ROUND: {run: review decisions by kind, and the ignored ones}}
        changes      {ROUND: {run: what changed since the run before: numbers of identities that are new, grown, merged,
                     split, gone, and a summary}}; only of rounds that have a run before
        versions     {package: [version, ...]}, more than one where steps differ
        settings     {run: {STEP: settings}}; absolute paths are relative to the workspace, or reduced to their last
                     part: reports contain no folders of this machine
    """
    return {
        "runs": [run.label for run in runs],
        "footage": aggregate({run.label: _footage(run) for run in runs}),
        "detection": {run.label: found for run in runs if (found := _detection(run)) is not None},
        "noise": _of(runs, lambda run: {name: _noise(report) for name, report in run.reports.items()}),
        "identities": _of(runs, lambda run: {name: _stages(report) for name, report in run.reports.items()}),
        "reach": _of(runs, lambda run: {name: _reach(run, found) for name, found in run.identities.items()}),
        "discarded": _of(runs, lambda run: {name: _discarded(run, found) for name, found in run.identities.items()}),
        "retrieval": _retrieval(runs),
        "training": _training(runs),
        "dropped": _of(runs, lambda run: {step: r.dropped for step, r in run.records.items() if r.dropped}),
        "counts": _of(runs, lambda run: {step: r.counts for step, r in run.records.items() if r.counts}),
        "seconds": _of(runs, lambda run: {step: r.seconds for step, r in run.records.items()}),
        "peak_memory_mb": _of(runs, lambda run: {step: r.peak_memory_mb for step, r in run.records.items()}),
        "thresholds": {
            name: {run.label: _finite(run.reports[name].get("thresholds", {})) for run in runs if name in run.reports}
            for name in _names(run.reports for run in runs)
        },
        "review": {
            name: {run.label: run.reports[name]["review"] for run in runs if "review" in run.reports.get(name, {})}
            for name in _names(run.reports for run in runs)
            if any("review" in run.reports.get(name, {}) for run in runs)
        },
        "changes": {
            name: {run.label: run.reports[name]["numbers"] for run in runs if _has_changes(run.reports.get(name, {}))}
            for name in _names(run.reports for run in runs)
            if any(_has_changes(run.reports.get(name, {})) for run in runs)
        },
        "versions": _versions(runs),
        "settings": {
            run.label: {step: _short_paths(_finite(r.settings), run.work.root) for step, r in run.records.items()}
            for run in runs
        },
    }


def aggregate(by_seed: Mapping[str, Any]) -> Tree:
    """Merges trees of numbers of several runs into one tree of leaves; see `numbers`.

    >>> aggregate({"a": {"mean_ap": 0.25}, "b": {"mean_ap": 0.75}})["mean_ap"]["mean"]
    0.5
    """
    there = {label: value for label, value in by_seed.items() if value is not None}
    if any(isinstance(value, Mapping) for value in there.values()):
        keys = dict.fromkeys(key for value in there.values() for key in value)
        return {str(key): aggregate({label: value.get(key) for label, value in there.items()}) for key in keys}
    there = {label: _finite(value) for label, value in there.items()}
    known = [value for value in there.values() if value is not None]
    if not known:
        return {"by_seed": there, "mean": None, "spread": None}
    if isinstance(known[0], list):
        columns = list(zip(*known, strict=False))
        return {
            "by_seed": there,
            "mean": [_mean(column) for column in columns],
            "spread": [_spread(column) for column in columns],
        }
    return {"by_seed": there, "mean": _mean(known), "spread": _spread(known)}


def origin_truth(run: Run) -> Int[np.ndarray, " t"]:
    """The true person of most crops of each tracklet as the tracker made it; -1 = no person or unknown."""
    truth, offsets = np.asarray(run.store.crops["truth"], np.int64), run.store.offsets
    return np.array([majority(truth[a:b]) for a, b in pairwise(offsets)], np.int64)


def majority(truth: Int[np.ndarray, " n"]) -> int:
    """The most frequent value, the smallest of equals; -1 for none."""
    if not len(truth):
        return -1
    values, counts = np.unique(truth, return_counts=True)
    return int(values[np.argmax(counts)])


def natural(name: str) -> tuple[int, int, list[tuple[int, str]]]:
    """Sort key: rounds by review decisions and number, then the descriptors of the demo, then other names.

    Numbers in names compare as numbers.
    """
    named = re.fullmatch(r"round\d+(?:-review(\d+))?", name)
    rank = 0 if named else 1 + _DESCRIPTORS.index(name) if name in _DESCRIPTORS else 1 + len(_DESCRIPTORS)
    parts = re.findall(r"\d+|\D+", name)
    return rank, int(named[1] or 0) if named else 0, [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _read_run(label: str, work: Workspace) -> Run:
    # Ingest first, then round by round, then evaluations.
    found: list[tuple[tuple[Any, ...], str, Record]] = []
    for folder in _finished(work.root):
        record = read_record(folder)
        found.append(((0, folder.name == "crops", folder.name), record.step, record))
    for place, parent in enumerate(_FOLDERS):
        for folder in _finished(work.root / parent):
            record = read_record(folder)
            key = (2,) if parent == "evaluations" else (1, natural(folder.name), place)
            found.append(((*key, natural(folder.name)), f"{record.step} {folder.name}", record))
    records = {step: record for _, step, record in sorted(found, key=lambda item: item[0])}
    return Run(
        label=label,
        work=work,
        records=records,
        reports={
            f.name: _read_json(f / "report.json")
            for f in _finished(work.root / "identities")
            if not work.is_of_earlier_crops(read_record(f))
        },
        training={
            f.name: _read_lines(f / "metrics.jsonl")
            for f in _finished(work.root / "models")
            if (f / "metrics.jsonl").exists()
        },
        scores={f.name: _read_json(f / "scores.json") for f in _finished(work.root / "evaluations")},
    )


def _finished(folder: Path) -> list[Path]:
    """Folders of finished steps directly in `folder`, in natural order."""
    if not folder.is_dir():
        return []
    inside = [f for f in folder.iterdir() if not f.name.endswith(".partial") and (f / "record.json").exists()]
    return sorted(inside, key=lambda f: natural(f.name))


def _read_json(path: Path) -> Tree:
    try:
        return read_json_object(path)
    except InputError as error:
        raise InputError(f"{error}; remove {path.parent} and run its step again") from error


def _read_lines(path: Path) -> list[Tree]:
    rows = [parse_json(line, f"{path} line {i}") for i, line in enumerate(read_text(path).splitlines(), 1) if line]
    if not all(isinstance(row, dict) and "step" in row for row in rows):
        raise InputError(f"{path} is damaged (rows without a step); remove {path.parent} and run its step again")
    return rows


def _names(trees: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for tree in trees for name in tree}, key=natural)


def _of(runs: Sequence[Run], what: Callable[[Run], Tree]) -> Tree:
    return aggregate({run.label: what(run) for run in runs})


def _footage(run: Run) -> Tree | None:
    if not (run.work.crops / "record.json").exists():
        return None
    store = run.store
    videos, truth = store.videos, store.crops["truth"]
    seconds = read_table(store.folder / "videos.parquet", "seconds")["seconds"]
    people = {"people": len(np.unique(truth[truth >= 0]))} if store.has_truth and len(videos) else {}
    return {
        "videos": len(videos),
        "cameras": len({video.camera for video in videos}),
        "seconds": float(seconds.sum()),
        "frames": sum(video.frames for video in videos),
        "tracklets": len(store.offsets) - 1,
        "crops": len(store),
        **people,
    }


def _detection(run: Run) -> Tree | None:
    if "ingest" not in run.records or (found := run.detection) is None:
        return None
    unclear = {
        name: int(unclear_identities(run.store, one.assignment.crop_identity).sum())
        for name, one in run.identities.items()
    }
    plain = {key: value for key, value in vars(found).items() if key != "cure"}
    return plain | {"warning": found.warning(), "unclear": unclear}


def _noise(report: Tree) -> Tree:
    return {stage["name"]: stage["noise"] for stage in report.get("stages", []) if "noise" in stage}


def _has_changes(report: Tree) -> bool:
    return "summary" in report.get("numbers", {})


def _stages(report: Tree) -> Tree:
    out: Tree = {}
    for stage in report.get("stages", []):
        mine: Tree = {key: value for key, value in stage.items() if _is_number(value) and key != "noise"}
        for key, value in (stage.get("scores") or {}).items():
            measure, _, score = key.partition("_")
            if measure in _MEASURES:
                mine.setdefault(measure, {})[score] = value
            else:
                mine.setdefault(key, value)
        out[stage["name"]] = mine
    return out


def _reach(run: Run, found: Identities) -> Tree:
    mine, video = found.assignment.crop_identity, run.store.crops["video"]
    pairs = np.unique(np.stack([mine[mine >= 0], video[mine >= 0]]), axis=1)
    videos = np.unique(pairs[0], return_counts=True)[1]
    values, counts = np.unique(videos, return_counts=True)
    return {"videos": {str(v): int(c) for v, c in zip(values, counts, strict=True)}}


def _discarded(run: Run, found: Identities) -> Tree:
    gone: Bool[np.ndarray, " n"] = found.assignment.crop_identity < 0
    if not run.store.has_truth:
        return {"crops": int(gone.sum())}
    truth = run.store.crops["truth"]
    usual = np.repeat(origin_truth(run), np.diff(run.store.offsets))
    return {"crops": int(gone.sum()), "correctly": int((gone & ((truth != usual) | (truth < 0))).sum())}


def _retrieval(runs: Sequence[Run]) -> Tree:
    out: Tree = {}
    for name in _names([run.scores for run in runs]):
        of = {run.label: run.scores[name] for run in runs if name in run.scores}
        words = {
            key: ", ".join(dict.fromkeys(str(scores[key]) for scores in of.values() if key in scores))
            for key in ("protocol", "extractor")
        }
        measured = {
            label: {key: value for key, value in scores.items() if key in _SCORES} for label, scores in of.items()
        }
        out[name] = {**words, **aggregate(measured)}
    return out


def _training(runs: Sequence[Run]) -> Tree:
    out: Tree = {}
    for name in _names([run.training for run in runs]):
        of = {run.label: run.training[name] for run in runs if run.training.get(name)}
        ends = {
            label: {
                "steps": rows[-1].get("step"),
                "first": {key: value for key in _CURVES if (value := _known(rows, key, 0)) is not None},
                "last": {key: value for key in _CURVES if (value := _known(rows, key, -1)) is not None},
            }
            for label, rows in of.items()
        }
        validation = {
            label: [
                [row["step"], _finite(row["validation_map"])] for row in rows if row.get("validation_map") is not None
            ]
            for label, rows in of.items()
        }
        out[name] = {**aggregate(ends), "validation": validation}
    return out


def _known(rows: list[Tree], key: str, which: int) -> int | float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return values[which] if values else None


def _versions(runs: Sequence[Run]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for run in runs:
        for record in run.records.values():
            for package, version in record.versions.items():
                if version not in out.setdefault(package, []):
                    out[package].append(version)
    return out


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: Any) -> Any:
    """Replaces NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _short_paths(value: Any, root: Path) -> Any:
    """Settings with each absolute path in them relative to `root` if it lies there, else as its last part."""
    if isinstance(value, dict):
        return {key: _short_paths(inner, root) for key, inner in value.items()}
    if isinstance(value, list):
        return [_short_paths(inner, root) for inner in value]
    found = _ABSOLUTE.search(value) if isinstance(value, str) else None
    if found is None:
        return value
    path = Path(value[found.start() :])
    tops = [top for top in (root.absolute(), root.resolve()) if path.is_relative_to(top)]
    return f"{value[: found.start()]}{path.relative_to(tops[0]) if tops else path.name}"


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in values if _is_number(value)]
    return float(np.mean(known)) if known else None


def _spread(values: Sequence[Any]) -> float | None:
    known = [value for value in values if _is_number(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None
