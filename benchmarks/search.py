"""Does a search find a person in another video, and how long does it take among a million crops?

    python benchmarks/search.py OUT                  # three worlds and a million crops, kept in results/search.json
    python benchmarks/search.py OUT --quick          # tiny, under a minute; nothing is kept
    python benchmarks/search.py OUT --large 10000000 --width 256  # kept in results/search_large.json
    python benchmarks/search.py OUT --probabilities WORKSPACE...  # of worlds; kept in results/search_probability.json

Worlds: the films are ingested, linked and trained on by `run` in one round. The middle crop of each tracklet is
searched for, and sightings in its own video are left out. Recall at k: the share of crops for which one of the first k
sightings is of the same true person, of those whose person is in another video at all.
Probabilities: tracklets, evenly spread, are searched for by their middle crop; the mean probability of the first k
sightings against the share of them that are the true person, and the same of all sightings of each tenth.
Speed: unit vectors drawn at random, eight crops a tracklet, two linked tracklets an identity; six searches by a crop in
a process of their own. Of more than a million vectors, the rest are the first 65,536 with their columns moved round.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import measure
import numpy as np

from reappear.cli.progress import listener
from reappear.core import Assignment
from reappear.pipeline.ingest.external import ExternalCrops, ExternalVideos, write_external
from reappear.pipeline.record import Outcome, run_step
from reappear.pipeline.search import Query, SearchSettings, search
from reappear.pipeline.settings import resolve
from reappear.pipeline.workspace import Workspace
from reappear.store import Identities, write_embedding_blocks, write_identities

TELL = listener(True)
RANKS = (1, 5)
LISTED = 20


def world(out: Path, seed: int, quick: bool) -> dict[str, Any]:
    """Recall by embeddings in one world."""
    # Here, so that the peak memory of a search is without torch.
    from reappear.pipeline.ingest import IngestSettings
    from reappear.pipeline.pretrain import PretrainSettings
    from reappear.pipeline.report import ReportSettings
    from reappear.pipeline.run import RunSettings, run
    from reappear.pipeline.synthesize import SynthesizeSettings, synthesize

    work, films = Workspace(out / f"work{seed}"), out / f"world{seed}"
    small = {"people": 12, "test_people": 2, "films": 2, "cameras": 2} if quick else {}
    synthesize(films, SynthesizeSettings(seed=seed, **small), progress=TELL)
    plain = {"precision": "bfloat16", "seed": seed, **({"steps": 4, "images_per_step": 24} if quick else {})}
    settings = RunSettings(
        rounds=1,
        ingest=IngestSettings(camera="prefix", truth_ids="global"),
        pretrain=resolve(PretrainSettings, plain),
        report=ReportSettings(identities=1, tracklets=1, projected=0),
    )
    run([films / "films"], work, settings, progress=TELL)
    return {name: recall(work, embeddings) for name, embeddings in (("colour", "round0"), ("own model", "round1"))}


def recall(work: Workspace, embeddings: str) -> dict[str, Any]:
    """Share of tracklets found in another video, within the first k sightings."""
    store = work.open_crops()
    truth, video = np.asarray(store.crops["truth"], np.int64), np.asarray(store.tracklets["video"])
    middle = (store.offsets[:-1] + store.offsets[1:]) // 2
    ranks = []
    for tracklet, crop in enumerate(middle.tolist()):
        elsewhere = truth[middle[video != video[tracklet]]]
        if truth[crop] < 0 or truth[crop] not in elsewhere:
            continue
        found = search(work, Query(f"crop:{crop}"), SearchSettings(top=len(middle)), embeddings=embeddings)
        others = [truth[one.crop] for one in found.sightings if video[one.tracklet] != video[tracklet]]
        ranks.append(others.index(truth[crop]) + 1 if truth[crop] in others else len(middle))
    return {"queries": len(ranks), **{f"recall_at_{k}": float(np.mean(np.array(ranks) <= k)) for k in RANKS}}


def probabilities(work: Workspace, embeddings: str, identities: str, count: int) -> dict[str, Any]:
    """Mean probability and share of right sightings, of so many queries."""
    store = work.open_crops()
    truth = np.asarray(store.crops["truth"], np.int64)[(store.offsets[:-1] + store.offsets[1:]) // 2]
    queries = np.linspace(0, len(truth) - 1, count).round().astype(int)
    queries = queries[truth[queries] >= 0]
    sure, right = np.full((2, len(queries), LISTED), np.nan)
    for row, tracklet in enumerate(queries.tolist()):
        crop = (store.offsets[tracklet] + store.offsets[tracklet + 1]) // 2
        asked = Query(f"crop:{crop}")
        found = search(work, asked, SearchSettings(top=LISTED), embeddings=embeddings, identities=identities).sightings
        sure[row, : len(found)] = [np.nan if one.probability is None else one.probability for one in found]
        right[row, : len(found)] = [truth[one.tracklet] == truth[tracklet] for one in found]
    tenth = np.minimum(10 * sure, 9) // 1
    tenths = [(sure[tenth == i], right[tenth == i]) for i in range(10)]
    return {
        "queries": len(queries),
        "first": {k: [float(x[:, :k].mean()) for x in (sure, right)] for k in (1, 5, LISTED)},
        "tenths": [[len(p), float(p.mean()), float(r.mean())] if len(p) else [0, None, None] for p, r in tenths],
        "calibration_error": float(sum(abs(p.sum() - r.sum()) for p, r in tenths) / sure.size),
    }


def speed(out: Path, crops: int, width: int) -> dict[str, Any]:
    """Seconds a query and the peak memory among random vectors."""
    work = Workspace(out / f"random{crops}")
    work.make()
    random = np.random.default_rng(0)
    tracklet = np.arange(crops) // 8

    def fill_crops(staging: Path) -> Outcome:
        none = np.full(crops, -1)
        rows = ExternalCrops(tracklet // 1000, tracklet, none, np.arange(crops) % 8 / 1.0, none)
        videos = [f"video{i}" for i in range(int(rows.video[-1]) + 1)]
        places = dict.fromkeys(("shard", "offset", "size"), none) | dict.fromkeys(("width", "height"), 0 * none)
        write_external(
            staging, rows, ExternalVideos(videos, videos, out), labels=[], places=places, source={"row": none},
            has_truth=False,
        )  # fmt: skip
        return Outcome(made=crops)

    def fill_vectors(staging: Path) -> Outcome:
        def blocks() -> Any:
            first = np.zeros((0, width), np.float32)
            for begin in range(0, crops, 65_536):
                rows = min(65_536, crops - begin)
                if begin < 1_000_000:
                    some = random.standard_normal((rows, width), np.float32)
                    some /= np.linalg.norm(some, axis=1, keepdims=True)
                    first = first if begin else some
                else:
                    some = np.roll(first[:rows], begin // 65_536, axis=1)
                yield some

        write_embedding_blocks(staging, blocks(), rows=crops, width=width, meta={"extractor": "random"})
        return Outcome(made=crops)

    def fill_identities(staging: Path) -> Outcome:
        first = np.arange(0, int(tracklet[-1]), 2)
        links = {"first": first, "second": first + 1, "similarity": 5.0 + 0 * first, "probability": 0.8 + 0 * first}
        links |= {"stage": np.full(len(first), "average-link", object), "distance": 0.1 + 0 * first}
        owner = Assignment(tracklet, np.arange(tracklet[-1] + 1) // 2)
        write_identities(staging, Identities(owner, links, {}, {"stages": [{"skipped_neighbors": 2}]}))
        return Outcome(made=len(first))

    run_step(work.crops, step="ingest", settings={}, inputs={}, work=fill_crops)
    given = {"extractor": {"kind": "given"}}
    run_step(work.embeddings("round0"), step="embed", settings=given, inputs={"crops": work.crops}, work=fill_vectors)
    run_step(
        work.identities("round0"), step="correlate", settings={}, inputs={"crops": work.crops}, work=fill_identities
    )
    return measure.apart(str(out), "--apart", str(crops))


def once(work: Workspace) -> dict[str, Any]:
    """Six searches, one after the other; of large sets three."""
    seconds, processor_seconds = [], []
    for crop in range(0, 6000 if len(work.open_crops()) < 2_000_000 else 3000, 1000):
        begun, used = time.perf_counter(), time.process_time()
        search(work, Query(f"crop:{crop}"), SearchSettings())
        seconds.append(round(time.perf_counter() - begun, 3))
        processor_seconds.append(round(time.process_time() - used, 3))
    peak = round(measure.peak_mb())
    return {"seconds": seconds, "processor_seconds": processor_seconds, "load": os.getloadavg()[0], "peak_mb": peak}


def main() -> None:
    """Writes results/search.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--worlds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--crops", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--probabilities", type=Path, nargs="+", default=[], metavar="WORKSPACE")
    parser.add_argument("--embeddings", nargs="+", default=["round0"], help="those measured with --probabilities")
    parser.add_argument("--identities", default="round0", help="whose links are read with --probabilities")
    parser.add_argument("--queries", type=int, default=300, help="tracklets searched for with --probabilities")
    parser.add_argument("--large", type=int, help="crops of a search that is kept in results/search_large.json")
    parser.add_argument("--apart", type=int)
    given = parser.parse_args()
    if given.apart:
        print(json.dumps(once(Workspace(given.out / f"random{given.apart}"))))
        return
    started_on = measure.machine()
    if given.probabilities:
        sure: dict[str, Any] = {}
        for path in given.probabilities:
            sure[path.name] = {
                name: probabilities(Workspace(path), name, given.identities, given.queries) for name in given.embeddings
            }
            print(path.name, sure[path.name], flush=True)
        measure.keep("search_probability", sure, started_on)
        return
    if given.large:
        large = {"crops": given.large, "width": given.width, **speed(given.out, given.large, given.width)}
        print(large, flush=True)
        measure.keep("search_large", large, started_on)
        return
    crops = 60_000 if given.quick else given.crops
    figures: dict[str, Any] = {"speed": {"crops": crops, "width": given.width, **speed(given.out, crops, given.width)}}
    print(figures["speed"], flush=True)
    figures["worlds"] = {}
    for seed in given.worlds[:1] if given.quick else given.worlds:
        figures["worlds"][seed] = world(given.out, seed, given.quick)
        print(seed, figures["worlds"][seed], flush=True)
    if not given.quick:
        measure.keep("search", figures, started_on)


if __name__ == "__main__":
    main()
