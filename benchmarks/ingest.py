"""How long does `ingest` take on videos, and how long did it take at another commit?

    git worktree add --detach /tmp/before b649369
    python benchmarks/ingest.py VIDEOS... --before /tmp/before/src [--weights yolox_nano.onnx] [--rounds 3] [--save]

Both versions run by turns, each in a process of its own with one worker. Seconds are those of the processor and of the
clock, without imports; the ratio is that of the least of each. `same` says that crops and tables are equal to the byte.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure

from reappear.pipeline.ingest import IngestSettings
from reappear.pipeline.ingest.videos import ingest_videos
from reappear.pipeline.settings import resolve
from reappear.pipeline.workspace import Workspace


def once(videos: list[Path], weights: Path | None) -> dict[str, Any]:
    """Seconds, and a hash of all that was made."""
    detector = {"kind": "motion"} if weights is None else {"kind": "yolox", "weights": str(weights)}
    settings = resolve(IngestSettings, {"workers": 1, "detector": detector}, {})
    with tempfile.TemporaryDirectory() as folder:
        work = Workspace(Path(folder) / "w")
        work.make()
        used, begun = time.process_time(), time.perf_counter()
        ingest_videos(videos, work, settings)
        used, begun = time.process_time() - used, time.perf_counter() - begun
        whole = hashlib.sha256()
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in (".tar", ".jpg", ".parquet"):
                whole.update(path.read_bytes())
    return {"processor": round(used, 2), "clock": round(begun, 2), "hash": whole.hexdigest()}


def by_turns(given: argparse.Namespace, weights: Path | None) -> dict[str, Any]:
    """Seconds of both versions in each round, and the ratios of the least."""
    sources = {"before": given.before, "now": Path(__file__).resolve().parents[1] / "src"}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in sources}
    arguments = [*map(str, given.videos), "--apart", *(["--weights", str(weights)] if weights else [])]
    for _ in range(given.rounds):
        for name, source in sources.items():
            environment = {**os.environ, "PYTHONPATH": str(source)}
            command = [sys.executable, __file__, *arguments]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            rows[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(name, rows[name][-1], flush=True)
    kinds = ("processor", "clock")
    out: dict[str, Any] = {name: {kind: [row[kind] for row in mine] for kind in kinds} for name, mine in rows.items()}
    least = {name: {kind: min(out[name][kind]) for kind in kinds} for name in rows}
    out["ratio"] = {kind: round(least["now"][kind] / least["before"][kind], 3) for kind in kinds}
    out["same"] = len({row["hash"] for mine in rows.values() for row in mine}) == 1
    return out


def main() -> None:
    """Writes results/ingest.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--before", type=Path, help="the folder src of another checkout")
    parser.add_argument("--weights", type=Path, help="of YOLOX, which is then measured too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--apart", action="store_true")
    given = parser.parse_args()
    if given.apart:
        print(json.dumps(once(given.videos, given.weights)))
        return
    started_on = measure.machine()
    figures = {"motion": by_turns(given, None)}
    if given.weights:
        figures["yolox"] = by_turns(given, given.weights)
    print({name: (found["ratio"], found["same"]) for name, found in figures.items()})
    if given.save:
        measure.keep("ingest", figures, started_on)


if __name__ == "__main__":
    main()
