"""Is the own model a better judge of who is who than the descriptor that came before it?

    python benchmarks/rounds.py OUT                  # the table: three worlds, kept in results/rounds.json
    python benchmarks/rounds.py OUT --worlds 10 11   # worlds that choices were made on; nothing is kept
    python benchmarks/rounds.py OUT --quick          # tiny, half a minute

Round 0 links tracklets by the colour descriptor and trains a model on the identities. Then tracklets are linked anew by
that model alone, or by both side by side (`beside`), from tracklets or from the identities of round 0 (`carry`); models
of round 1 are trained on the identities by the model alone and by both, and round 2 is linked by the colour descriptor
beside the latter. Pairwise and B-cubed F1 of identities against the truth, and mAP of each model on people who are not
in the videos. Each step is kept, and the same command goes on after an interruption.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import measure

from reappear.cli.progress import listener
from reappear.models import Embedder
from reappear.models.extractors import ColorSettings, ModelSettings
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.pretrain import PretrainSettings, pretrain
from reappear.pipeline.settings import resolve
from reappear.pipeline.synthesize import SynthesizeSettings, synthesize
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace

TELL = listener(True)
COLOUR = "colour"
# Identities: the embeddings they are linked by, and the identities they start from.
LINKED = {
    "colour": (COLOUR, None),
    "model": ("model", None),
    "model, carry": ("model", "colour"),
    "beside": ("beside", None),
    "beside, carry": ("beside", "colour"),
    "beside, round 2": ("beside-2", None),
}


def world(out: Path, seed: int, quick: bool) -> dict[str, Any]:
    """All figures of a world."""
    work, films = Workspace(out / f"work{seed}"), out / f"world{seed}"
    small = {"people": 40, "test_people": 12, "films": 2, "cameras": 2} if quick else {}
    synthesize(films, SynthesizeSettings(seed=seed, **small), progress=TELL)
    ingest([films / "films"], work, IngestSettings(camera="prefix", truth_ids="global"), progress=TELL)
    plain = {"precision": "bfloat16", **({"steps": 8, "images_per_step": 24} if quick else {})}
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
        models[name] = Validation.of_folder(films / "test", embedder.preprocessing).score(embedder)
        return ModelSettings(name=str(work.model(name)))

    embed(work, COLOUR, EmbedSettings(extractor=ColorSettings()), progress=TELL)
    link("colour")
    own = train("colour")
    embed(work, "model", EmbedSettings(extractor=own), progress=TELL)
    embed(work, "beside", EmbedSettings(extractor=own, beside=COLOUR), progress=TELL)
    for name in ("model", "model, carry", "beside", "beside, carry"):
        link(name)
    train("model")
    embed(work, "beside-2", EmbedSettings(extractor=train("beside"), beside=COLOUR), progress=TELL)
    link("beside, round 2")
    return {"identities": identities, "models": models}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--worlds", type=int, nargs="+", default=[20, 21, 22])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    started_on = measure.machine()
    runs = {}
    for seed in asked.worlds[:1] if asked.quick else asked.worlds:
        runs[str(seed)] = world(asked.out, seed, asked.quick)
        print(seed, json.dumps(runs[str(seed)]), flush=True)
    means = {
        "pairwise_f1": {
            n: statistics.mean(run["identities"][n]["pairwise_f1"] for run in runs.values()) for n in LINKED
        },
        "bcubed_f1": {n: statistics.mean(run["identities"][n]["bcubed_f1"] for run in runs.values()) for n in LINKED},
        "map": {n: statistics.mean(run["models"][n] for run in runs.values()) for n in ("colour", "model", "beside")},
    }
    print(json.dumps(means, indent=1))
    if not asked.quick and asked.worlds == parser.get_default("worlds"):
        measure.keep("rounds", {"mean": means, "worlds": runs}, started_on)


if __name__ == "__main__":
    main()
