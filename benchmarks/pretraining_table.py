"""What identities are worth to pre-training: random < moco, dino < tracklet < CION on true identities?

Where CION on correlated identities falls is told beside it.

    python benchmarks/pretraining_table.py OUT --crops CUHK03_NP [--extractor WEIGHTS] [--part test|validation]
    python benchmarks/pretraining_table.py OUT --world
    sizes: [--seeds 3] [--steps 4000] [--images 96] [--backbone resnet18_ibn] [--height 128] [--width 64] [--locals 4]
           [--set NAME=VALUE ...] (any setting of `reappear pretrain`) [--arms ARM ...] [--quick]

`--crops` is a folder that holds `bounding_box_train` in Market-1501's names. Its identities are sorted by number:
positions 1-567 are trained on, with tracklet = identity × camera, and 568-767 are scored, one camera asking for the
other. Nothing is chosen on those; for choices, `--part validation` trains on 1-467 and scores on 468-567.
`--world` films the synthetic world instead, and scores on people who are never in the films.

Every arm of a seed sees as many steps and images, from the same random weights. Crops are decoded once and held.
Each arm is a step of the pipeline: what is done is kept, and the same command goes on after an interruption.
mAP and rank 1 of the exported network; `curve` holds mAP while it trained.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import torch

from reappear.cli.progress import listener
from reappear.methods.settings import OWN_LABELS
from reappear.models import load_model
from reappear.models.extractors import extractor_settings_for
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.pretrain import PretrainSettings, pretrain
from reappear.pipeline.probe import Probe
from reappear.pipeline.settings import parse_override, resolve
from reappear.pipeline.synthesize import SynthesizeSettings, synthesize
from reappear.pipeline.workspace import Workspace
from reappear.train.views import ViewSettings

TELL = listener(True)
PARTS = {"test": (567, 767), "validation": (467, 567)}  # up to where is trained, and then scored
# LUP's changes of colour and shape, at this benchmark's sizes.
LUP = ViewSettings(
    local_views=0,
    global_scale=(0.2, 1.0),
    ratio=(0.4, 0.6),
    jitter=0.0,
    blur=(0.5, 0.5, 0.0),
    solarise=0.0,
    erase=0.5,
)
ARMS = ("random", "moco", "dino", "tracklet", "correlated", "true")
ORDER = (("random", "moco"), ("random", "dino"), ("moco", "tracklet"), ("dino", "tracklet"), ("tracklet", "true"))


def split_of_crops(source: Path, out: Path, part: str) -> None:
    """`out/train` and `out/scored` in Market-1501's layout, as links."""
    files = sorted((source / "bounding_box_train").glob("*.jpg"))
    people = sorted({file.name[:4] for file in files})
    trained, scored = PARTS[part]
    if len(people) < scored:
        raise SystemExit(f"{source} holds {len(people)} identities; {scored} are needed")
    place = {person: i for i, person in enumerate(people)}
    for file in files:
        position = place[file.name[:4]]
        if position >= scored:
            continue
        asks = "query" if file.name[4:7] == "_c1" else "bounding_box_test"
        link = out / ("train/bounding_box_train" if position < trained else f"scored/{asks}") / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(file.resolve())


def workspaces(asked: argparse.Namespace, settings: PretrainSettings) -> list[tuple[int, Workspace, Path]]:
    """For each seed its workspace, with correlated identities, and the people to be scored on."""
    extractor = EmbedSettings(extractor=extractor_settings_for(str(asked.extractor or "color")))
    made = []
    if asked.crops:
        folder = asked.out / asked.part
        split_of_crops(asked.crops, folder, asked.part)
        ingested = IngestSettings(layout="market1501", labels_are_truth=True)
    for seed in range(asked.seeds):
        if asked.crops:
            work, sources, scored = Workspace(folder / "work"), [folder / "train"], folder / "scored"
        else:
            world, work = asked.out / f"world{seed}", Workspace(asked.out / f"work{seed}")
            small = {"people": 24, "probe_people": 12, "films": 2, "cameras": 2} if asked.quick else {}
            synthesize(world, SynthesizeSettings(seed=seed, **small), progress=TELL)
            sources, scored = [world / "films"], world / "probe"
            ingested = IngestSettings(camera="prefix")
        ingest(sources, work, ingested, progress=TELL)
        if "correlated" in asked.arms:
            embed(work, "round0", extractor, progress=TELL)
            correlate(work, "round0", CorrelateSettings(), embeddings="round0", progress=TELL)
        made.append((seed, work, scored))
    return made


def arm(name: str, settings: PretrainSettings) -> tuple[PretrainSettings, str | None]:
    """Settings and labels of one arm."""
    if name == "random":
        return replace(settings, steps=0), "instance"
    if name == "moco":
        plain = resolve(PretrainSettings, {"method": {"kind": "moco", "queue": 2048}})
        return replace(settings, method=plain.method, views=LUP), None
    if name in OWN_LABELS:
        plain = resolve(PretrainSettings, {"method": {"kind": name}})
        shared = {k: v for k, v in vars(settings.method).items() if k in vars(plain.method) and k != "kind"}
        return replace(settings, method=replace(plain.method, **shared)), None
    return settings, "round0" if name == "correlated" else "true"


def scores(work: Workspace, model: str, scored: Path, settings: PretrainSettings) -> dict[str, Any]:
    probe = Probe.of_folder(scored, settings.height, settings.width)
    ranking = probe.rank(load_model(work.model(model))[0], torch.device("cpu"))
    rows = [json.loads(line) for line in (work.model(model) / "metrics.jsonl").read_text().splitlines()]
    curve = [[row["step"], round(row["probe_map"], 4)] for row in rows if "probe_map" in row]
    return {"map": ranking.mean_ap, "rank1": float(ranking.cmc[0]), "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--world", action="store_true")
    parser.add_argument("--extractor", type=Path, help="weights that correlate sees with; colour if not given")
    parser.add_argument("--part", choices=list(PARTS), default="test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--backbone", default="resnet18_ibn")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--locals", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="a setting of pretrain, such as lr=1e-3")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--quick", action="store_true", help="1 seed, 12 steps of a small network, nothing kept")
    asked = parser.parse_args()
    if bool(asked.crops) == asked.world:
        parser.error("give --crops FOLDER or --world")
    if asked.quick:
        asked.seeds, asked.steps, asked.images, asked.backbone = 1, 12, 24, "cnn6"
    plain = {
        "backbone": asked.backbone,
        "height": asked.height,
        "width": asked.width,
        "local_height": asked.height // 2,
        "local_width": asked.width // 2,
        "views": {"local_views": asked.locals},
        "steps": asked.steps,
        "images_per_step": asked.images,
        "lr": 1e-3,
        "method": {"kind": "cion", "momentum": 0.99, "teacher_temperature": 0.04},
        "threads": asked.threads,
        "checkpoint_every": 200,
        "log_every": 50,
        "probe_every": max(1, asked.steps // 10),
    }
    settings = resolve(PretrainSettings, plain, dict(parse_override(text) for text in asked.set))
    started_on = measure.machine()
    table: dict[str, list[dict[str, Any]]] = {name: [] for name in asked.arms}
    for seed, work, scored in workspaces(asked, settings):
        for name in asked.arms:
            chosen, labels = arm(name, replace(settings, seed=seed, probe=scored))
            model = f"{name}-{seed}"
            pretrain(work, model, chosen, labels=labels, progress=TELL)
            table[name].append(scores(work, model, scored, chosen))
            print(f"seed {seed} {name}: mAP {table[name][-1]['map']:.4f}", flush=True)
    means = {name: statistics.mean(row["map"] for row in rows) for name, rows in table.items()}
    figures = {
        "data": "world" if asked.world else f"crops, {asked.part}",
        "asked": {k: v.name if isinstance(v, Path) else v for k, v in vars(asked).items() if k not in ("out", "crops")},
        "map": {name: round(value, 4) for name, value in means.items()},
        "sd": {
            name: round(statistics.stdev(r["map"] for r in rows), 4) for name, rows in table.items() if len(rows) > 1
        },
        "rank1": {name: round(statistics.mean(r["rank1"] for r in rows), 4) for name, rows in table.items()},
        "holds": {f"{a} < {b}": means[a] < means[b] for a, b in ORDER if a in means and b in means},
        "runs": table,
    }
    print(json.dumps({k: v for k, v in figures.items() if k != "runs"}, indent=2))
    if not asked.quick:
        which = "world" if asked.world else "crops"
        measure.keep(
            f"pretraining_table_{which}" + ("" if asked.part == "test" else "_validation"), figures, started_on
        )


if __name__ == "__main__":
    main()
