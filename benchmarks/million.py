"""Correlates a million synthetic tracklets (d = 256) on two cores within 4 GB, with a kill and a resume.

    python benchmarks/million.py [--tracklets N] [--folder DIR] [--memory 4GB]

The world is 1000 sites of four cameras. At each site 100 people pass every camera twice; tracklets are split,
have swapped crops, identity switches, or background. All tracklets of a person are within the sliding range.
Vectors and labels are written site by site, then only commands are run:

    reappear ingest world.npy       crops and embeddings without images
    reappear correlate              killed by SIGKILL while it links across videos
    reappear correlate              the same again, to its end

A world of a tenth of the size is then run with and without a kill; both outputs must be byte-identical.

The kernel limits the private memory of `correlate`, a single process, to `--memory` (RLIMIT_DATA). Mapped files are not
part of that limit, so memory is also read from /proc/PID/status: `peak_mb` is the peak resident memory, including
mapped files and the program; `anonymous_mb` is the peak of memory not backed by a file, sampled every 0.1 s.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reappear.core import offsets_to_owner
from reappear.pipeline.engines import parse_memory
from reappear.synthetic import TrackletPlan, embedded_tracklets

SITE = 1000  # tracklets
PEOPLE, CAMERAS, CROPS = 100, 4, 4
WIDTH = 256
SPACING = 2.0  # seconds between the crops of a tracklet: people are seen together for some time
LINKING_AT_A_MILLION = 3.5  # seconds into the last stage, of about 7, after which it is killed; in proportion


def plan(site: int) -> TrackletPlan:
    return TrackletPlan(
        people=PEOPLE,
        cameras=CAMERAS,
        visits=2,
        crops=CROPS,
        swapped=0.03,
        switched=0.02,
        background=0.02,
        split=0.25,
        seed=site,
    )


def film(folder: Path, tracklets: int) -> int:
    """Writes world.npy and world.parquet, one site in memory at a time; returns the number of crops."""
    sites = tracklets // SITE
    rows = SITE * sites // 5 * 4 * CROPS  # a quarter of visits are two tracklets
    schema = pa.schema({name: pa.int64() for name in ("video", "tracklet", "truth")} | {"time": pa.float64()})
    with (folder / "world.npy").open("wb") as file, pq.ParquetWriter(folder / "world.parquet", schema) as table:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": (rows, WIDTH)})
        for site in range(sites):
            world, truth = embedded_tracklets(plan(site), dimensions=WIDTH, noise=0.6, camera_shift=0.4)
            world.embeddings.astype("<f2").tofile(file)
            owner = offsets_to_owner(truth.offsets)
            place = np.arange(len(owner)) - truth.offsets[owner]
            length = np.diff(truth.offsets)[owner]
            step = (truth.end - truth.start)[owner] / np.maximum(length - 1, 1)
            columns = {
                "video": truth.video[owner] + CAMERAS * site,
                "tracklet": owner,
                "truth": np.where(truth.truth >= 0, truth.truth + PEOPLE * site, -1),
                "time": SPACING / 0.25 * (truth.start[owner] + place * step),
            }
            table.write_table(pa.table(columns, schema=schema))
    return rows


def command(
    *arguments: object, limit: int = resource.RLIM_INFINITY, until: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Runs a command of reappear with limited private memory, or kills it when `until` is true."""
    begun = time.perf_counter()
    told: dict[str, float] = {"peak_mb": 0.0, "anonymous_mb": 0.0}
    line = [sys.executable, "-m", "reappear", *map(str, arguments)]
    child = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    resource.prlimit(child.pid, resource.RLIMIT_DATA, (limit, limit))  # long before it has imported anything
    killed = False
    while child.poll() is None:
        for name, value in status(child.pid).items():
            told[name] = max(told[name], value)
        if not killed and until():
            os.kill(child.pid, signal.SIGKILL)
            killed = True
        time.sleep(0.1)
    if child.returncode != (-signal.SIGKILL if killed else 0):
        raise SystemExit(f"reappear {arguments[0]} ended with {child.returncode}")
    return {"seconds": round(time.perf_counter() - begun, 1), "killed": killed, **told}


def status(pid: int) -> dict[str, float]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    named = {"peak_mb": "VmHWM", "anonymous_mb": "RssAnon"}
    return {name: round(int(fields[f].split()[0]) / 1e3 * 1.024, 1) for name, f in named.items() if f in fields}


class Linking:
    """True once the last stage has run for some time."""

    def __init__(self, partial: Path, seconds: float) -> None:
        self._before = partial / "unfinished" / "after-03" / "report.json"
        self._seconds = seconds
        self._since: float | None = None

    def __call__(self) -> bool:
        """Whether to kill now."""
        if self._since is None and self._before.exists():
            self._since = time.monotonic()
        return self._since is not None and time.monotonic() - self._since >= self._seconds


def run(folder: Path, tracklets: int, memory: str) -> dict[str, Any]:
    """Runs from vectors to identities, with a kill."""
    begun = time.perf_counter()
    crops = film(folder, tracklets)
    figures: dict[str, Any] = {"filming": {"seconds": round(time.perf_counter() - begun, 1)}}
    work = folder / "work"
    figures["ingest"] = command("ingest", folder / "world.npy", "--out", work)
    correlate = partial(command, "correlate", work, "--memory", memory, limit=parse_memory(memory))
    linking = Linking(work / "identities" / "killed.partial", LINKING_AT_A_MILLION * tracklets / 1e6)
    figures["until_killed"] = correlate("--name", "killed", until=linking)
    if not figures["until_killed"]["killed"]:
        raise SystemExit("it was done before it could be killed")
    figures["gone_on"] = correlate("--name", "killed")
    mine = [figures[part] for part in ("until_killed", "gone_on")]
    report = json.loads((work / "identities" / "killed" / "report.json").read_text(encoding="utf-8"))
    return {
        "tracklets": tracklets,
        "crops": crops,
        "people": PEOPLE * (tracklets // SITE),
        "width": WIDTH,
        "memory": memory,
        "limit": "RLIMIT_DATA of correlate",
        "seconds_to_identities": round(sum(figures[part]["seconds"] for part in ("until_killed", "gone_on")), 1),
        "peak_mb": max(part["peak_mb"] for part in mine),
        "anonymous_mb": max(part["anonymous_mb"] for part in mine),
        **figures,
        "thresholds": {key: report["thresholds"][key] for key in ("sigma_cst", "sigma_drm")},
        "stages": report["stages"],
    }


def compare(folder: Path, tracklets: int, memory: str) -> dict[str, Any]:
    """Whether a killed and resumed run gives the same bytes as an uninterrupted one."""
    run(folder, tracklets, memory)
    command("correlate", folder / "work", "--memory", memory, "--name", "calm", limit=parse_memory(memory))
    killed, calm = (folder / "work" / "identities" / name for name in ("killed", "calm"))
    tables = sorted(path.name for path in calm.glob("*.parquet"))
    if not all((killed / name).read_bytes() == (calm / name).read_bytes() for name in tables):
        raise SystemExit("a run that was killed on the way came to other identities")
    return {"tracklets": tracklets, "same_bytes": tables}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracklets", type=int, default=1_000_000, help="in thousands; tried first with few")
    parser.add_argument("--folder", type=Path, help="where the world goes, 8 GB of it; a temporary folder if not given")
    parser.add_argument("--memory", default="4GB")
    given = parser.parse_args()
    if given.tracklets < SITE or given.tracklets % SITE:
        parser.error(f"--tracklets counts in thousands, got {given.tracklets}")
    started_on = measure.machine()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        figures = run(Path(folder), given.tracklets, given.memory)
    tenth = max(SITE, given.tracklets // 10 // SITE * SITE)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        figures["against_undisturbed"] = compare(Path(folder), tenth, given.memory)
    name = "million" if given.tracklets == 1_000_000 else f"million_{given.tracklets}"
    measure.keep(name, figures, started_on)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
