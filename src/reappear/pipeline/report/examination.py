"""The page of an evaluation: scores of models on data sets, with examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reappear.core import Progress
from reappear.pipeline.workspace import Workspace

from .formatting import PROTOCOLS, number, number_of, percent
from .plots import colour, roc
from .retrieval_examples import LookAlike, Pair, RankedList, RetrievalExamples

Tree = dict[str, Any]

_HEIGHT, _LISTS, _WORST = 96, 2, 12


@dataclass(frozen=True)
class Examined:
    """One model on one set, prepared for the page."""

    scores: Tree
    ranked: list[tuple[str, list[RankedList]]]
    worst: list[RankedList]
    look_alikes: list[LookAlike]
    distances: Markup | None
    cameras: list[tuple[int, list[Pair]]]
    plane: tuple[Markup, list[tuple[str, str]]] | None


@dataclass(frozen=True)
class ExaminedSet:
    """All models on one set."""

    data: str
    models: list[Examined]
    roc: Markup | None
    keys: list[tuple[str, str]]


def examine(
    examples: RetrievalExamples, *, name: str, lists: int, worst: int, how: str | None, seed: int = 0
) -> Examined:
    """Collects the contents of the page for one evaluation.

    Args:
        examples: The evaluation.
        name: Unique on the page.
        lists: Ranked lists of each kind.
        worst: Worst queries, and as many hard negatives.
        how: Projection to two dimensions; None = not drawn.
        seed: Seed of the projection.
    """
    return Examined(
        scores=examples.scores,
        ranked=examples.ranked(lists),
        worst=examples.worst(worst),
        look_alikes=examples.look_alikes(worst),
        distances=examples.distances(name),
        cameras=examples.cameras(),
        plane=examples.plane(name, how, seed) if how else None,
    )


def draw_roc(
    examples: dict[str, RetrievalExamples], name: str, colour_of: Mapping[str, str] | None = None
) -> tuple[Markup | None, list[tuple[str, str]]]:
    """ROC curves of several models, and their colours; in order of the models if not given."""
    curves = {label: curve for label, of in examples.items() if (curve := of.roc()) is not None}
    colours = [colour_of[label] if colour_of else colour(place) for place, label in enumerate(curves)]
    if not curves:
        return None, []
    alt = f"true-match rate by false-match rate of {', '.join(curves)}"
    svg = Markup(roc(curves, name=f"roc-{name}", alt=alt, colours=colours))  # noqa: S704
    return svg, list(zip(curves, colours, strict=True))


def environment() -> Environment:
    """Templates with autoescape."""
    made = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=number, number_of=number_of, percent=percent)
    return made


def render(work: Workspace, found: Tree, *, progress: Progress) -> str:
    """The page of the evaluations in `found`; see `evaluate.compare`."""
    sets = []
    with progress.task("page", len(found["evaluations"]), "evaluation") as done:
        for place, data in enumerate(dict.fromkeys(scores["data"] for scores in found["evaluations"])):
            mine = [scores for scores in found["evaluations"] if scores["data"] == data]
            examples = {
                scores["name"]: RetrievalExamples(work.evaluation(scores["name"]), scores, height=_HEIGHT)
                for scores in mine
            }
            models = []
            for i, of in enumerate(examples.values()):
                models.append(examine(of, name=f"{place}-{i}", lists=_LISTS, worst=_WORST, how="tsne"))
                done(1)
            by_label = {of.scores["label"]: of for of in examples.values()}
            sets.append(ExaminedSet(data, models, *draw_roc(by_label, str(place))))
    return (
        environment()
        .get_template("examination.html")
        .render(
            sets=sets,
            differences=found["differences"],
            means=found["means"],
            protocols=PROTOCOLS,
            best=max(scores["mean_ap"] for scores in found["evaluations"]),
        )
    )
