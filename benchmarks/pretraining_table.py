"""Compares labels and methods of pre-training: random < moco, dino < tracklet < CION on true identities?

CION on correlated identities is reported beside it.

    python benchmarks/pretraining_table.py OUT --crops CUHK03_NP --extractor WEIGHTS [--part test|validation]
    python benchmarks/pretraining_table.py OUT --world
    parts: [--seeds 0 1 2] [--arms ARM ...]; trials: [--set NAME=VALUE ...] (of `reappear pretrain`, for all arms)
           [--moco NAME=VALUE ...] (of its method) [--quick]

`--crops` is a folder that holds `bounding_box_train` in Market-1501's names. Its identities are sorted by number:
positions 1-567 are for training, with tracklet = identity × camera, and 568-767 for scores, with queries from one
camera and the gallery from the other. Nothing is chosen on those; for choices, `--part validation` trains on 1-467 and
scores on 468-567. `--world` uses the synthetic world instead, and scores on people who are not in the videos.

Every arm of a seed sees as many steps and images, from the same random weights, in the same views; `moco_lup` alone
has LUP's. Crops are decoded once and held.
Each arm is a step of the pipeline: what is done is kept, and the same command goes on after an interruption. So
processes may share the work by seeds or arms, the second begun when the first trains; the whole command then only
assembles the table, and writes it to `results/` if it is whole: every arm, three seeds or more.
mAP and rank 1 of the exported network; `curve` holds mAP while it trained.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure

from reappear.cli.progress import listener
from reappear.methods.moco.settings import MocoSettings
from reappear.methods.registry import METHODS
from reappear.models import Embedder
from reappear.models.extractors import extractor_settings_for
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.pretrain import PretrainSettings, pretrain
from reappear.pipeline.settings import parse_override, resolve, to_plain
from reappear.pipeline.synthesize import SynthesizeSettings, synthesize
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace
from reappear.train.views import ViewSettings

TELL = listener(True)
PARTS = {"test": (567, 767), "validation": (467, 567)}  # up to where is trained, and then scored
# The paper's temperature: at the small recipe's, tracklets of real crops soon share a few prototypes.
DISTILLED = {"kind": "cion", "teacher_temperature": 0.04}
# Chosen on `--part validation`, by arms `tracklet` and `true`.
CROPS = {
    "backbone": "cnn6",
    "arguments": {"stripes": 4},
    "steps": 400,
    "method": DISTILLED,
    "precision": "bfloat16",
    "log_every": 50,
    "validation_every": 50,
}
# The small recipe but for temperature and precision. The temperature and `MOCO` were chosen on world 0, from other
# first weights than any that is reported.
WORLD = {"method": DISTILLED, "precision": "bfloat16", "validation_every": 40}
MOCO = {"queue": 2048, "momentum": 0.99}  # for hundreds of steps; LUP's are for hundreds of thousands
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
ARMS = ("random", "moco_lup", "moco", "dino", "tracklet", "correlated", "true")
ORDER = (
    ("random", "moco_lup"),
    ("random", "moco"),
    ("random", "dino"),
    ("moco_lup", "tracklet"),
    ("moco", "tracklet"),
    ("dino", "tracklet"),
    ("tracklet", "true"),
)


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


def workspaces(asked: argparse.Namespace) -> list[tuple[int, Workspace, Path]]:
    """For each seed its workspace, with correlated identities, and the people to be scored on."""
    extractor = EmbedSettings(extractor=extractor_settings_for(str(asked.extractor or "color")))
    made = []
    if asked.crops:
        folder = asked.out / asked.part
        split_of_crops(asked.crops, folder, asked.part)
        ingested = IngestSettings(layout="market1501", labels_are_truth=True)
    for seed in asked.seeds:
        if asked.crops:
            work, sources, scored = Workspace(folder / "work"), [folder / "train"], folder / "scored"
        else:
            world, work = asked.out / f"world{seed}", Workspace(asked.out / f"work{seed}")
            small = {"people": 24, "test_people": 12, "films": 2, "cameras": 2} if asked.quick else {}
            synthesize(world, SynthesizeSettings(seed=seed, **small), progress=TELL)
            sources, scored = [world / "films"], world / "test"
            ingested = IngestSettings(camera="prefix", truth_ids="global")
        ingest(sources, work, ingested, progress=TELL)
        if "correlated" in asked.arms:
            embed(work, "round0", extractor, progress=TELL)
            correlate(work, "round0", CorrelateSettings(), embeddings="round0", progress=TELL)
        made.append((seed, work, scored))
    return made


def arm(name: str, settings: PretrainSettings, moco: MocoSettings) -> tuple[PretrainSettings, str | None]:
    """Settings and labels of one arm."""
    if name == "random":
        return replace(settings, steps=0), "instance"
    if name in ("moco", "moco_lup"):
        return replace(settings, method=moco, views=LUP if name == "moco_lup" else settings.views), None
    if name in METHODS:
        plain = resolve(PretrainSettings, {"method": {"kind": name}})
        shared = {k: v for k, v in vars(settings.method).items() if k in vars(plain.method) and k != "kind"}
        return replace(settings, method=replace(plain.method, **shared)), None
    return settings, "round0" if name == "correlated" else "true"


def scores(work: Workspace, model: str, scored: Path) -> dict[str, Any]:
    embedder = Embedder.load(work.model(model))
    ranking = Validation.of_folder(scored, embedder.preprocessing).rank(embedder)
    rows = [json.loads(line) for line in (work.model(model) / "metrics.jsonl").read_text().splitlines()]
    curve = [[row["step"], round(row["validation_map"], 4)] for row in rows if "validation_map" in row]
    return {"map": ranking.mean_ap, "rank1": float(ranking.cmc[0]), "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--world", action="store_true")
    parser.add_argument("--extractor", type=Path, help="weights that correlate sees with; colour if not given")
    parser.add_argument("--part", choices=list(PARTS), default="test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--set", action="append", default=[], help="a setting of pretrain, such as lr=1e-3")
    parser.add_argument(
        "--moco", action="append", default=[], help="a setting of moco's method, such as momentum=0.999"
    )
    parser.add_argument("--quick", action="store_true", help="1 seed, 16 steps, nothing kept")
    asked = parser.parse_args()
    if bool(asked.crops) == asked.world:
        parser.error("give --crops FOLDER or --world")
    plain: dict[str, Any] = CROPS if asked.crops else WORLD
    if asked.quick:
        asked.seeds, plain = [0], {**plain, "steps": 16, "images_per_step": 24}
    settings = resolve(PretrainSettings, plain, dict(parse_override(text) for text in asked.set))
    moco = resolve(MocoSettings, MOCO, dict(parse_override(text) for text in asked.moco))
    started_on = measure.machine()
    table: dict[str, list[dict[str, Any]]] = {name: [] for name in asked.arms}
    for seed, work, scored in workspaces(asked):
        for name in asked.arms:
            chosen, labels = arm(name, replace(settings, seed=seed, validation=scored), moco)
            model = f"{name}-{seed}"
            pretrain(work, model, chosen, labels=labels, progress=TELL)
            table[name].append(scores(work, model, scored))
            print(f"seed {seed} {name}: mAP {table[name][-1]['map']:.4f}", flush=True)
    means = {name: statistics.mean(row["map"] for row in rows) for name, rows in table.items()}
    figures = {
        "data": "world" if asked.world else f"crops, {asked.part}",
        "settings": to_plain(settings),
        "moco": to_plain(moco),
        "map": {name: round(value, 4) for name, value in means.items()},
        "sd": {
            name: round(statistics.stdev(r["map"] for r in rows), 4) for name, rows in table.items() if len(rows) > 1
        },
        "rank1": {name: round(statistics.mean(r["rank1"] for r in rows), 4) for name, rows in table.items()},
        "holds": {f"{a} < {b}": means[a] < means[b] for a, b in ORDER if a in means and b in means},
        "runs": table,
    }
    print(json.dumps({k: v for k, v in figures.items() if k != "runs"}, indent=2))
    if not asked.quick and asked.part == "test" and set(asked.arms) == set(ARMS) and len(asked.seeds) >= 3:
        measure.keep(f"pretraining_table_{'world' if asked.world else 'crops'}", figures, started_on)


if __name__ == "__main__":
    main()
