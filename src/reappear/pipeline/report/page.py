"""Renders report.html from numbers, images and plots."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from reappear.core import Progress, counted, plural
from reappear.metrics import most_seen
from reappear.store import read_embeddings

from . import ReportSettings
from .correlation import correlation_strips
from .examination import draw_roc, environment, examine
from .formatting import PROTOCOLS, number, percent
from .gather import Run, Tree, natural
from .pictures import IdentityCard, Thumbnails, clock
from .plots import colour, draw_thresholds, lines, project, scatter, wheel
from .retrieval_examples import RetrievalExamples

STAGES = {
    "identities so far": (
        "the round before",
        "The identities of earlier rounds, which this round starts from.",
    ),
    "tracklet = person": ("as tracked", "Baseline: each tracklet is an identity."),
    "single-tracklet": (
        "within one tracklet",
        "Outlier crops are removed from their tracklet, the farthest first.",
    ),
    "single-video": (
        "within one video",
        "Removed crops move to a matching tracklet of the same video or are discarded; "
        "then similar tracklets of the video are merged.",
    ),
    "reallocation": (
        "within one video",
        "Removed crops move to a matching tracklet of the same video or are discarded.",
    ),
    "average-link": (
        "across all videos",
        "Groups of tracklets are merged, the most similar first, while all their pairs are similar on average.",
    ),
    "parting": ("review decisions", "Identities of earlier rounds are split where a review decision requires it."),
    "review": ("review decisions", "Review decisions are applied: same person, or different people."),
    "cross-video": ("across videos", "Similar tracklets of different videos are merged, transitively."),
    "global-link": ("across videos", "Similar tracklets of all videos are merged, transitively."),
}
DESCRIPTORS = {
    "untrained": "the network before any training",
    "instance": "trained with each image as an identity",
    "tracklet": "trained with each tracklet as an identity",
    "cion": "trained on the identities found here, with CION's objective",
    "found": "trained on the identities found here",
    "true_identity": "trained on the true identities",
    "color": "no network: colour histograms in stripes",
}
UNTRAINED = "untrained"
_PAGE = 60  # identities that are folded together
_REFERENCES = tuple(name for name in DESCRIPTORS if name != "found")


@dataclass(frozen=True)
class Cloud:
    """Embeddings of one round in the plane."""

    title: str
    svg: Markup
    agreement: float | None


def render(run: Run, found: Tree, settings: ReportSettings, *, progress: Progress) -> str:
    """The page: images and curves of one run, numbers of all."""
    last = _last_round(run, found)
    thumbnails = Thumbnails(
        run, height=settings.height, name=last, stages={key: title for key, (title, _) in STAGES.items()}
    )
    synthetic = "synthesize" in run.records  # then the queried people are not in the videos
    ours = _ours(found)
    colours = _colours(run, ours, last)
    curves = _curves(run, colours)
    shown = ours if ours is not None and ours in run.scores else next(reversed(run.scores), None)
    with progress.task("report", 4, "section") as done:
        people = thumbnails.people(settings.identities, settings.strips, settings.crops)
        overview = thumbnails.overview(settings.overview)
        done(1)
        clouds, legend = _clouds(run, thumbnails, settings)
        done(1)
        examples = {
            name: RetrievalExamples(run.work.evaluation(name), scores, height=settings.height)
            for name, scores in run.scores.items()
        }
        examined = None
        if shown is not None:
            examined = examine(
                examples[shown],
                name="shown",
                lists=settings.queries,
                worst=settings.worst,
                how=settings.projection if settings.projected else None,
                seed=settings.seed,
            )
        curves_of_pairs, keys_of_pairs = draw_roc(examples, "all", colours)
        done(1)
        templates = environment()
        templates.filters.update(clock=clock, duration=_duration, json=_json)
        page = templates.get_template("template.html").render(
            found=found,
            settings=settings,
            first=run.label,
            last=last,
            ours=ours,
            shown=shown,
            sentence=found["summary"],
            synthetic=synthetic,
            warning="" if run.detection is None else run.detection.warning(),
            figures=_figures(found, last, ours, synthetic=synthetic),
            videos=thumbnails.videos(),
            tracklets=thumbnails.tracklets(settings.tracklets, settings.crops + 2),
            correlation=correlation_strips(
                run, thumbnails, tracklets=min(4, settings.tracklets), frames=settings.crops
            ),
            people=people,
            overview=_pages(overview),
            hidden=0 if last is None else max(0, thumbnails.identities - len(overview)),
            discarded=thumbnails.discarded(settings.discarded),
            thresholds=_thresholds(run),
            merges=thumbnails.wrong_merges(settings.failures, settings.crops),
            splits=thumbnails.wrong_splits(settings.failures, settings.crops),
            truth=run.store.has_truth,
            stages=STAGES,
            rises=_rises(found),
            estimated=_estimated(found),
            dropped=any(leaf["mean"] for reasons in found["dropped"].values() for leaf in reasons.values()),
            descriptors=DESCRIPTORS,
            protocols=PROTOCOLS,
            clouds=clouds,
            legend=legend,
            projection={"tsne": "t-SNE", "pca": "principal components"}[settings.projection],
            curves=curves,
            validated=any(curve["title"] == "Validation" for curve in curves),
            examined=examined,
            roc=curves_of_pairs,
            roc_keys=keys_of_pairs,
            collapse=_collapse(run),
        )
        done(1)
    return page


def _last_round(run: Run, found: Tree) -> str | None:
    return next((name for name in reversed(found["noise"]) if name in run.reports), None)


def _ours(found: Tree) -> str | None:
    """The main descriptor: `found`, or the last one that is not a baseline."""
    names = [name for name in found["retrieval"] if name not in _REFERENCES]
    return "found" if "found" in names else names[-1] if names else None


def _identities(found: Tree, last: str | None) -> Tree | None:
    """The last stage of the last round."""
    if last is None or not found["identities"].get(last):
        return None
    stage: Tree = found["identities"][last][list(found["identities"][last])[-1]]
    return stage


def summarize(run: Run, found: Tree) -> str:
    """What was found, and how far it can be trusted, in a few sentences."""
    last, ours = _last_round(run, found), _ours(found)
    footage = _means(found["footage"])
    videos, tracklets = counted(round(footage["videos"]), "video"), counted(round(footage["tracklets"]), "tracklet")
    text = f"{videos} of {_cameras(footage)}: {tracklets}"
    stage = _identities(found, last)
    if stage is not None:
        count = round(stage["identities"]["mean"])
        unsure = [of for of in found["detection"].values() if of["moving_regions"] or of["signs"]]
        text += f", up to {counted(count, 'person')}" if unsure else f", {counted(count, 'identity')}"
        unclear = max((of["unclear"].get(last, 0) for of in unsure), default=0)
        if unclear:
            text += f" ({number(unclear)} of them doubtful)"
        reach = found["reach"][last].get("videos", {})
        several = sum(leaf["mean"] or 0 for count, leaf in reach.items() if int(count) > 1)
        if several:
            text += f", {number(round(several))} of them in several videos"
    if ours is not None and (score := found["retrieval"][ours]["mean_ap"]["mean"]) is not None:
        task = "people who are not in the videos" if "synthesize" in run.records else "labelled people"
        text += f". Model trained on them: {percent(score)}% mAP on {task}"
        before = found["retrieval"].get("untrained", {}).get("mean_ap", {}).get("mean")
        if before is not None:
            text += f" ({percent(before)}% untrained)"
    text += "."
    stages = found["identities"].get(last, {}).values()
    expected = [of["precision"]["mean"] for of in stages if "precision" in of]
    if expected:
        text += f" {percent(expected[-1])}% of the linked pairs of tracklets are expected to be right."
        if expected[-1] < 0.5:
            text += (
                " Most identities mix people, then, and a model learns little from them: take an extractor that was "
                "trained on people (--extractor), or link less (--correlate.precision 0.9)."
            )
    if any(of["moving_regions"] for of in found["detection"].values()):
        text += " Found as moving regions, not as people."
    if empty := max((of["videos_without_people"] for of in found["detection"].values()), default=0):
        text += f" Nobody was found in {counted(round(empty), 'video')}."
    return text


def _cameras(footage: Tree) -> str:
    return counted(round(footage["cameras"]), "camera")


def _figures(found: Tree, last: str | None, ours: str | None, *, synthetic: bool) -> list[tuple[str, str, str]]:
    """Value, label, and value for comparison."""
    footage = _means(found["footage"])
    out = [
        (
            *_value_and_label(footage["videos"], "video"),
            f"{_duration(footage['seconds'])} from {_cameras(footage)}" if footage["seconds"] else _cameras(footage),
        ),
        (*_value_and_label(footage["tracklets"], "tracklet"), counted(round(footage["crops"]), "crop")),
    ]
    stage = _identities(found, last)
    if stage is not None:
        true, people = footage.get("people"), stage["identities"]["mean"]
        unsure = any(run["warning"] for run in found["detection"].values())
        out.append(
            (
                *(_value_and_label(people, "person", " at most") if unsure else _value_and_label(people, "identity")),
                f"true people: {number(true)}" if true is not None else "no ground truth",
            )
        )
    if ours is not None and found["retrieval"][ours]["mean_ap"]["mean"] is not None:
        cmc = found["retrieval"][ours].get("cmc", {}).get("mean")
        out.append(
            (
                f"{percent(found['retrieval'][ours]['mean_ap']['mean'])}%",
                "mAP on people not in the videos" if synthetic else "mAP on labelled images",
                f"rank 1: {percent(cmc[0])}%" if cmc else "",
            )
        )
    return out


def _value_and_label(value: float, noun: str, more: str = "") -> tuple[str, str]:
    return number(round(value)), (noun if round(value) == 1 else plural(noun)) + more


def _pages(cards: Sequence[IdentityCard]) -> list[Tree]:
    """The identities in folded pages."""
    pages = [list(cards[i : i + _PAGE]) for i in range(0, len(cards), _PAGE)]
    if len(pages) == 1:
        return [{"title": counted(len(cards), "identity"), "identities": pages[0]}]
    return [
        {"title": f"{number(1 + i * _PAGE)} to {number(i * _PAGE + len(page))} by reach", "identities": page}
        for i, page in enumerate(pages)
    ]


def _thresholds(run: Run) -> list[Tree]:
    """The calibrated thresholds of each round, with a plot of their evidence."""
    out = []
    for place, (name, report) in enumerate(run.reports.items()):
        thresholds = report.get("thresholds", {})
        svg = draw_thresholds(thresholds, name=f"thresholds{place}")
        if svg is not None:
            out.append({"round": name, "svg": Markup(svg), "linking": report.get("linking", {}), **thresholds})  # noqa: S704
    return out


def _rises(found: Tree) -> list[str]:
    """Stages after which the noise score is higher than before."""
    out = []
    for name, stages in found["noise"].items():
        for (_, before), (stage, after) in pairwise(stages.items()):
            if None not in (before["mean"], after["mean"]) and after["mean"] > before["mean"]:
                title = STAGES[stage][0] if stage in STAGES else stage.replace("_", " ")
                out.append(f"in {name}, {title}: from {before['mean']:.3f} to {after['mean']:.3f}")
    return out


def _estimated(found: Tree) -> str:
    """Sample size and standard error where n_S is estimated from a sample; "" otherwise."""
    stages = [stage for by_stage in found["identities"].values() for stage in by_stage.values()]
    errors = [stage["noise_error"]["mean"] for stage in stages if "noise_error" in stage]
    if not errors:
        return ""
    rows = max(stage["noise_sample"]["mean"] for stage in stages if "noise_sample" in stage)
    return (
        f"{counted(round(rows), 'identity')} drawn at random, each compared with all others; standard error "
        f"up to {max(errors):.3f}"
    )


def _means(tree: Tree) -> dict[str, int | float]:
    return {key: leaf["mean"] for key, leaf in tree.items()}


def _clouds(run: Run, thumbnails: Thumbnails, settings: ReportSettings) -> tuple[list[Cloud], list[tuple[str, str]]]:
    """Projections of the same crops by the first, untrained and last extractor; colours and their labels."""
    names = sorted((key.removeprefix("embed ") for key in run.records if key.startswith("embed ")), key=natural)
    store = run.store
    group = thumbnails.truth if store.has_truth else None
    if group is None and thumbnails.found is not None:
        group = np.asarray(thumbnails.found.assignment.crop_identity, np.int64)
    if group is None or not names or settings.projected == 0:
        return [], []
    chosen = most_seen(group, store.camera, settings.projected)
    rows = np.concatenate(
        [_sample(np.flatnonzero(group == g), store.camera) for g in chosen] or [np.zeros(0, np.int64)]
    )
    if len(rows) < 3:
        return [], []
    clouds = []
    rounds = [name for name in names if name != UNTRAINED] or names
    shown = [rounds[0], *([UNTRAINED] if UNTRAINED in names else []), rounds[-1]]
    for place, name in enumerate(dict.fromkeys(shown)):
        vectors, meta = read_embeddings(run.work.embeddings(name))
        some = np.asarray(vectors[rows], np.float32)
        there = np.linalg.norm(some, axis=1) > 0
        title = "Before training" if name == UNTRAINED else f"Embeddings {name}"
        if re.fullmatch(r"round[1-9]\d*(-review\d+)?", name):
            title = f"After training, {name}"
        if meta.get("extractor"):
            title += f" ({meta['extractor']})"
        svg = scatter(
            project(some[there], how=settings.projection, seed=settings.seed),
            np.searchsorted(chosen, group[rows[there]]),
            store.camera[rows[there]],
            name=f"cloud{place}",
            alt=(
                f"{counted(int(there.sum()), 'crop')} of {counted(len(chosen), 'person')} in the plane, "
                f"embedded by {name}"
            ),
        )
        agreement = _agreement(some[there], group[rows[there]], store.camera[rows[there]]) if store.has_truth else None
        clouds.append(Cloud(title, Markup(svg), agreement))  # noqa: S704 (drawn by matplotlib, its text escaped)
    word = "true person" if store.has_truth else "identity"
    return clouds, [(wheel(i, len(chosen)), f"{word} {g}") for i, g in enumerate(chosen.tolist())]


def _sample(rows: Int[np.ndarray, " k"], camera: Int[np.ndarray, " n"], each: int = 6) -> Int[np.ndarray, " m"]:
    """At most `each` rows per camera, evenly spaced."""
    out = []
    for c in np.unique(camera[rows]):
        mine = rows[camera[rows] == c]
        out.append(mine[np.unique(np.linspace(0, len(mine) - 1, min(each, len(mine))).round().astype(int))])
    return np.concatenate(out) if out else rows


def _agreement(
    vectors: Float[np.ndarray, "n d"], group: Int[np.ndarray, " n"], camera: Int[np.ndarray, " n"]
) -> float | None:
    """Share of crops whose nearest crop of another camera shows the same person."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.where(camera[:, None] != camera[None], unit @ unit.T, -np.inf)
    fair = ((group[:, None] == group[None]) & (camera[:, None] != camera[None])).any(axis=1)
    if not fair.any():
        return None
    return float((group[near.argmax(axis=1)] == group)[fair].mean())


def _series(rows: list[Tree], key: str) -> tuple[list[float], list[float]]:
    pairs = [
        (float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None and math.isfinite(row[key])
    ]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _colours(run: Run, ours: str | None, last: str | None) -> dict[str, str]:
    """One colour for each model in all plots: the first for that of the last round, which evaluations call `found`."""
    best = [name for name in (last, ours) if name is not None]
    others = [name for name in dict.fromkeys([*run.training, *run.scores]) if name not in best]
    return dict.fromkeys(best, colour(0)) | {name: colour(1 + place) for place, name in enumerate(others)}


def _curves(run: Run, colour_of: dict[str, str]) -> list[Tree]:
    """Loss and validation of all models in one chart each."""
    out = []
    for key, title, text in (
        (
            "loss",
            "Loss",
            "Cross-entropy between student and teacher on different views of the same person. Values of different "
            "labels are not comparable: more varied images of an identity make the task harder.",
        ),
        ("validation_map", "Validation", "mAP in percent on the validation set during training."),
    ):
        series = {name: pairs for name, rows in run.training.items() if (pairs := _series(rows, key))[0]}
        if not series:
            continue
        colours = [colour_of[name] for name in series]
        svg = lines(
            series,
            name=f"curve-{key}",
            alt=f"{title} by step of {', '.join(series)}",
            colours=colours,
            marked=key == "validation_map",
            percent=key == "validation_map",
            zero=key == "validation_map",
        )
        keys = list(zip(series, colours, strict=True))
        out.append({"title": title, "text": text, "svg": Markup(svg), "keys": keys})  # noqa: S704
    return out


def _collapse(run: Run) -> list[Tree]:
    """Teacher entropy and entropy of the batch mean, one chart per model."""
    out = []
    for place, (name, rows) in enumerate(run.training.items()):
        each, mean = _series(rows, "teacher_entropy"), _series(rows, "batch_entropy")
        if not each[0] or not mean[0]:
            continue
        svg = lines(
            {"one image": each, "whole batch": mean},
            name=f"collapse{place}",
            alt=f"entropy of the teacher by step of model {name}: of one image and of the batch's mean",
            colours=[colour(0), colour(1)],
            zero=True,
        )
        gap = mean[1][-1] - each[1][-1]
        out.append(
            {
                "name": name,
                "svg": Markup(svg),  # noqa: S704
                "gap": gap,
                "distinguished": math.exp(gap),
                "collapsed": gap < math.log(2),
            }
        )
    return out


def _json(plain: object) -> str:
    return json.dumps(plain, indent=2, ensure_ascii=False)


def _duration(seconds: int | float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
