"""Runs the whole pipeline on a synthetic world and compares the model with its baselines."""

from dataclasses import field, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from reappear.core import SILENT, Progress, process_pool, settings
from reappear.methods.cion.settings import CionSettings
from reappear.models.extractors import ColorSettings, ExtractorSettings, ModelSettings
from reappear.video import MotionSettings

from .embed import EmbedSettings, embed
from .evaluate import EvaluateSettings, evaluate_one
from .ingest import IngestSettings, ingest
from .pages import require_own_page
from .pretrain import PretrainSettings, pretrain
from .report import report
from .run import RunSettings, correlate_in_rounds, count_rounds
from .synthesize import SynthesizeSettings, synthesize
from .workspace import Workspace

# What counts as one person in each baseline: each image its own, each tracklet its own, and the truth.
BASELINES = {"instance": "instance", "tracklet": "tracklet", "true_identity": "true"}


@settings
class DemoSettings:
    """A world, what to do with its films, and how often."""

    seeds: Annotated[int, "how many times, each with a world and a training of its own", Interval(ge=1, le=1000)] = 1
    seed: Annotated[int, "the first seed", Interval(ge=0, le=2**31)] = 0
    world: Annotated[SynthesizeSettings, "the world that is filmed"] = field(default_factory=SynthesizeSettings)
    run: Annotated[RunSettings, "what is done with the films"] = field(
        default_factory=lambda: RunSettings(
            ingest=IngestSettings(detector=MotionSettings(), camera="prefix", truth_ids="global"),
            pretrain=PretrainSettings(validation_every=80),
        )
    )


def demo(out: Path, settings: DemoSettings, *, progress: Progress = SILENT) -> Path:
    """Films, ingests, correlates, trains, trains the baselines at equal steps and images, and compares all.

    Args:
        out: `seed0/world`, `seed0` (a workspace), `seed1` ..., and the report over all.
        settings: See `DemoSettings`.
        progress: Progress listener.

    Returns:
        The report, `report.html`, with `report.json` beside it.
    """
    from .training.step import check_training  # imports torch

    require_own_page(out, "report")
    check_training(replace(settings.run.pretrain, validation=None))  # its own is filmed
    works = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        if settings.seeds > 1:
            progress.note(f"seed {seed}")
        works.append(_one_world(Workspace(out / f"seed{seed}"), settings, seed, progress))
    return report(works, out, settings.run.report, progress=progress)


def _one_world(work: Workspace, settings: DemoSettings, seed: int, progress: Progress) -> Workspace:
    work.make()
    world = work.root / "world"
    synthesize(world, replace(settings.world, seed=seed), progress=progress)
    rounds = count_rounds(settings.run)
    training = replace(settings.run.pretrain, seed=seed, validation=world / "test")
    plan = replace(settings.run, pretrain=training)
    ingest([world / "films"], work, plan.ingest, progress=progress)
    with process_pool(1) as beside:  # small networks use one core well and two badly: two trainings run side by side
        baselines = beside.submit(_train_baselines, work, training)
        last = correlate_in_rounds(work, plan, rounds, progress=progress)[-1]
        if training.method.kind != "cion":
            pretrain(work, "cion", replace(training, method=CionSettings()), labels=last, progress=progress)
        with progress.task("baselines", None, "model"):
            baselines.result()
    descriptors = _descriptors(work, last)
    embed(work, "untrained", EmbedSettings(extractor=descriptors["untrained"]), progress=progress)
    for name, extractor in descriptors.items():
        evaluate_one(work, name, EvaluateSettings(extractor=extractor), data=world / "test", progress=progress)
    return work


def _train_baselines(work: Workspace, training: PretrainSettings) -> None:
    pretrain(work, "untrained", replace(training, steps=0), labels="instance")
    for name, labels in BASELINES.items():
        pretrain(work, name, training, labels=labels)


def _descriptors(work: Workspace, last: str) -> dict[str, ExtractorSettings]:
    models = {"untrained": "untrained", **{name: name for name in (*BASELINES, "cion")}, "found": last}
    return {
        **{
            name: ModelSettings(name=str(work.model(model)))
            for name, model in models.items()
            if work.model(model).exists()
        },
        "color": ColorSettings(),
    }
