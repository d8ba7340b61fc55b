"""Shared by all benchmarks: description of the machine, times, peak memory, and result files."""

import gc
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "reappear",
    "numpy",
    "scipy",
    "scikit-learn",
    "faiss-cpu",
    "numba",
    "opencv-python-headless",
    "torch",
    "timm",
)


def machine() -> dict[str, Any]:
    """Processor, cores in use, memory, versions."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        **versions,
    }


def seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """The minimum time over several runs."""
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        begun = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begun)
    return best


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):  # not `ru_maxrss`, which begins with that of the process that started this one
            return int(line.split()[1]) * 1.024 / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def apart(*arguments: str) -> dict[str, Any]:
    """Runs this script in a fresh process, for its own peak memory; its last line of output is JSON."""
    done = subprocess.run([sys.executable, sys.argv[0], *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _without_folders(value: Any) -> Any:
    """The same with the last part of each absolute path, so that results contain no folders of a machine."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def keep(name: str, figures: dict[str, Any], started_on: dict[str, Any]) -> None:
    """Writes `results/NAME.json`: the command, the machine, the figures; of each path the last part alone."""
    RESULTS.mkdir(exist_ok=True)
    script, *arguments = sys.argv
    command = " ".join(["python", f"benchmarks/{Path(script).name}", *map(_without_folders, arguments)])
    page = {"command": command, "machine": started_on, **_without_folders(figures)}
    (RESULTS / f"{name}.json").write_text(json.dumps(page, indent=2, allow_nan=False) + "\n", encoding="utf-8")
