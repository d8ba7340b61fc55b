"""GRL in the protocols of iLIDS-VID and PRID 2011: a model of each of ten splits, and mean and spread of the scores.

    python benchmarks/video_splits.py OUT                      # drawn sets of their sizes, kept in results/
    python benchmarks/video_splits.py OUT --quick              # tiny, two minutes
    python benchmarks/video_splits.py OUT --data ilids_vid,test=last:SETS --init resnet50.pth \
        --config recipes/finetune/ilids_vid/grl_resnet50.yaml  # the real ones, as published
    python benchmarks/video_splits.py OUT --data prid2011:SETS --init resnet50.pth \
        --config recipes/finetune/prid2011/grl_resnet50.yaml

For each split, two commands as a user types them:

    reappear finetune --data SET,split=0:SETS --method grl --name split0 --out OUT
    reappear evaluate SET,split=0:SETS --protocol video --gallery-includes-query no --model OUT/models/split0 --out OUT

Drawn sets: 300 people in two cameras, halves by a MATLAB file of which GRL trains on the first (`test=last`); and 200
people, of whom 178 are in the splits. A step that is done is not done again.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import measure
from video_sets import drawn, options, reappear, write_ilids_vid, write_prid2011

SPLITS = 10
SIZES = {"ilids_vid": (300, 300), "prid2011": (200, 178)}  # people, and those in the splits
SMALL: dict[str, Any] = {
    "backbone": "cnn6",
    "arguments": "{width: 16}",
    "height": 64,
    "width": 32,
    "steps": 30,
    "images_per_step": 64,
    "optimizer": "adam",
    "lr": 5e-4,
    "validation_share": 0,
    "validation_every": 0,
    "device": "cpu",
}


def draw(root: Path, layout: str, *, quick: bool) -> Path:
    """A drawn set in a layout."""
    people, used = (14, 12) if quick and layout == "prid2011" else (12, 12) if quick else SIZES[layout]
    if not root.exists():
        of, staging = drawn(people, 8, 30, cameras=2, visits=1), root.with_suffix(".partial")
        if layout == "ilids_vid":
            write_ilids_vid(staging, of, splits=SPLITS)
        else:
            write_prid2011(staging, of, used=used, splits=SPLITS)
        staging.rename(root)
    return root


def over_splits(data: str, out: Path, words: list[str]) -> dict[str, Any]:
    """Trains and scores a model of each split."""
    layout, _, root = data.partition(":")
    name, *given = layout.split(",")
    rows = []
    for split in range(SPLITS):
        mine = ",".join([name, f"split={split}", *given]) + f":{root}"
        reappear("finetune", "--data", mine, "--out", out, "--name", f"split{split}", "--method", "grl", *words)
        how = ["--protocol", "video", "--gallery-includes-query", "no", "--name", f"split{split}", "--out", out]
        (found,) = reappear("evaluate", mine, "--model", out / "models" / f"split{split}", *how)["evaluations"]
        cmc = found["cmc"]
        ranks = {f"rank{n}": round(100 * cmc[min(n, len(cmc)) - 1], 2) for n in (1, 5, 20)}
        rows.append({"split": split, "queries": found["queries"], "gallery": found["gallery"], **ranks})
        rows[-1]["map"] = round(100 * found["mean_ap"], 2)
        print(json.dumps(rows[-1]), flush=True)
    scores = ("rank1", "rank5", "rank20", "map")
    spread = {key: round(statistics.stdev(row[key] for row in rows), 2) for key in scores}
    return {
        "data": layout,
        "mean": {key: round(statistics.mean(row[key] for row in rows), 2) for key in scores},
        "sd": spread,
        "splits": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", help="LAYOUT:FOLDER of a real set; drawn ones if not given")
    parser.add_argument("--config", type=Path, help="a recipe of finetune; small if not given")
    parser.add_argument("--init", help="first weights; random if not given")
    parser.add_argument("--set", action="append", default=[], help="a setting of finetune, as steps=600")
    parser.add_argument("--quick", action="store_true", help="tiny; nothing is kept")
    asked = parser.parse_args()
    started_on = measure.machine()
    words = ["--config", str(asked.config)] if asked.config else options(SMALL | ({"steps": 2} if asked.quick else {}))
    words += ["--init", asked.init] if asked.init else []
    words += [word for text in asked.set for word in ("--set", text)]
    if asked.data:
        sets = {asked.data.partition(":")[0]: asked.data}
    else:
        roots = {layout: draw(asked.out / layout, layout, quick=asked.quick) for layout in SIZES}
        sets = {"ilids_vid": f"ilids_vid,test=last:{roots['ilids_vid']}", "prid2011": f"prid2011:{roots['prid2011']}"}
    found = {name: over_splits(data, asked.out / f"of {name}".replace(" ", "-"), words) for name, data in sets.items()}
    print(json.dumps({name: [of["mean"], of["sd"]] for name, of in found.items()}, indent=1))
    if not asked.data and not asked.quick:
        measure.keep("video_splits", {"settings": SMALL, "first_weights": asked.init or "random", **found}, started_on)


if __name__ == "__main__":
    main()
