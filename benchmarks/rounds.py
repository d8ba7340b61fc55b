"""Is the own model a better judge of who is who than the descriptor that came before it?

    python benchmarks/rounds.py OUT                  # the table: three worlds, kept in results/rounds.json
    python benchmarks/rounds.py OUT --worlds 10 11   # worlds that choices were made on; nothing is kept
    python benchmarks/rounds.py OUT --quick          # tiny, half a minute
    python benchmarks/rounds.py OUT --crops CUHK03_NP --extractors color WEIGHTS   # kept in results/rounds_crops.json

Round 0 links tracklets by an extractor, in the worlds the colour descriptor, and trains a model on the identities. Then
tracklets are linked anew by that model alone, or by both side by side (`beside`), from tracklets or from the identities
of round 0 (`carry`); models of round 1 are trained on the identities by the model alone and by both, and round 2 is
linked by each of these. Pairwise and B-cubed F1 of identities against the truth, and mAP of each model on people who
are not in the videos. Each step is kept, and the same command goes on after an interruption.

Crops are those of people 1-467 of CUHK03 by number, one tracklet per person and camera; models are scored on people
468-567. There a seed is that of the trainings.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import measure
from objectives import CROPS, split_of_crops

from reappear.cli.progress import listener
from reappear.models import Embedder
from reappear.models.extractors import ColorSettings, ExtractorSettings, ModelSettings, extractor_settings_for
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.pretrain import PretrainSettings, pretrain
from reappear.pipeline.settings import parse_override, resolve
from reappear.pipeline.synthesize import SynthesizeSettings, synthesize
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace

TELL = listener(True)
FIRST = "round0"
# Identities: the embeddings they are linked by, and the identities they start from.
LINKED = {
    FIRST: (FIRST, None),
    "model": ("model", None),
    "model, carry": ("model", FIRST),
    "beside": ("beside", None),
    "beside, carry": ("beside", FIRST),
    "model, round 2": ("model-2", None),
    "beside, round 2": ("beside-2", None),
}
TRAINED = (FIRST, "model", "beside")


def world(out: Path, seed: int, quick: bool) -> dict[str, Any]:
    """All figures of a world."""
    work, films = Workspace(out / f"work{seed}"), out / f"world{seed}"
    small = {"people": 40, "test_people": 12, "films": 2, "cameras": 2} if quick else {}
    synthesize(films, SynthesizeSettings(seed=seed, **small), progress=TELL)
    ingest([films / "films"], work, IngestSettings(camera="prefix", truth_ids="global"), progress=TELL)
    training = {"precision": "bfloat16", **({"steps": 8, "images_per_step": 24} if quick else {})}
    return rounds(work, films / "test", ColorSettings(), training)


def crops(out: Path, source: Path, extractor: str, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """All figures of the crops, by an extractor; `changes` are settings of `pretrain`."""
    split_of_crops(source, out / "crops_dev", "crops_dev")
    work = Workspace(out / f"{Path(extractor).stem}{seed}")
    ingest([out / "crops_dev" / "train"], work, IngestSettings(layout="market1501", labels_are_truth=True))
    training = {"precision": "bfloat16", **CROPS, "seed": seed, **changes}
    return rounds(work, out / "crops_dev" / "scored", extractor_settings_for(extractor), training)


def rounds(work: Workspace, scored: Path, extractor: ExtractorSettings, plain: dict[str, Any]) -> dict[str, Any]:
    """Scores of identities and models."""
    training = resolve(PretrainSettings, plain)
    identities, models = {}, {}

    def link(name: str) -> None:
        by, start = LINKED[name]
        folder = name.replace(", ", "-").replace(" ", "-")
        correlate(work, folder, CorrelateSettings(), embeddings=by, start=start, progress=TELL)
        last = json.loads((work.identities(folder) / "report.json").read_text())["stages"][-1]["scores"]
        identities[name] = {key: last[key] for key in ("pairwise_f1", "bcubed_f1", "identities")}

    def train(name: str) -> ModelSettings:
        pretrain(work, name, training, labels=name, progress=TELL)
        embedder = Embedder.load(work.model(name))
        models[name] = Validation.of_folder(scored, embedder.preprocessing).score(embedder)
        return ModelSettings(name=str(work.model(name)))

    def see(name: str, model: ModelSettings, beside: str | None) -> None:
        embed(work, name, EmbedSettings(extractor=model, beside=beside), progress=TELL)

    embed(work, FIRST, EmbedSettings(extractor=extractor), progress=TELL)
    link(FIRST)
    own = train(FIRST)
    see("model", own, None)
    see("beside", own, FIRST)
    for name in ("model", "model, carry", "beside", "beside, carry"):
        link(name)
    see("model-2", train("model"), None)
    see("beside-2", train("beside"), FIRST)
    link("model, round 2")
    link("beside, round 2")
    return {"identities": identities, "models": models}


def means(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Over runs."""
    scores = {
        score: {name: statistics.mean(run["identities"][name][score] for run in runs) for name in LINKED}
        for score in ("pairwise_f1", "bcubed_f1")
    }
    return {**scores, "map": {name: statistics.mean(run["models"][name] for run in runs) for name in TRAINED}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--worlds", type=int, nargs="+", default=[20, 21, 22])
    parser.add_argument("--crops", type=Path, help="CUHK03-NP")
    parser.add_argument("--extractors", nargs="+", default=["color"], help="of round 0, for crops")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the trainings, for crops")
    parser.add_argument("--set", action="append", default=[], help="a setting of pretrain, for crops")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    started_on = measure.machine()
    if asked.crops:
        found, changes = {}, dict(parse_override(text) for text in asked.set)
        for extractor in asked.extractors:
            name, each = Path(extractor).stem, []
            for seed in asked.seeds:
                each.append(crops(asked.out, asked.crops, extractor, seed, changes))
                print(name, seed, json.dumps(each[-1]), flush=True)
            found[name] = {"mean": means(each), "seeds": dict(zip(map(str, asked.seeds), each, strict=True))}
        print(json.dumps({name: figures["mean"] for name, figures in found.items()}, indent=1))
        measure.keep("rounds_crops", found, started_on)
        return
    runs = {}
    for seed in asked.worlds[:1] if asked.quick else asked.worlds:
        runs[str(seed)] = world(asked.out, seed, asked.quick)
        print(seed, json.dumps(runs[str(seed)]), flush=True)
    mean = means(list(runs.values()))
    print(json.dumps(mean, indent=1))
    if not asked.quick and asked.worlds == parser.get_default("worlds"):
        measure.keep("rounds", {"mean": mean, "worlds": runs}, started_on)


if __name__ == "__main__":
    main()
