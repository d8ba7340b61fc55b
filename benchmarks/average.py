"""Times average linkage with the neighbours of all pairs: from vectors to identities, and what of it is the search.

    python benchmarks/average.py            # 25,000 to 250,000 tracklets, ten minutes on two cores, 2 GB of memory
    python benchmarks/average.py --quick    # a tenth of them

The vectors are those of `linking.py`, d = 768, one crop each, at eight places; `device.py` does the same on a GPU.
"""

import argparse
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import linking
import measure
import numpy as np

from reappear.core import Assignment, TrackletSet
from reappear.denoise import BLAS, Trace, average_link
from reappear.denoise.neighbors import nearest_neighbors
from reappear.denoise.products import Products

SIZES = 25_000, 50_000, 100_000, linking.GPU
CROWD, PLACES = 1000, 8  # tracklets in a video, and where videos are taken


def to_identities(count: int, products: Products = BLAS) -> dict[str, Any]:
    """Seconds from vectors to identities."""
    with tempfile.TemporaryDirectory() as folder:
        linking.centroids(Path(folder) / "centers.npy", count)
        rows = np.load(Path(folder) / "centers.npy")
    unknown = np.full(count, np.nan)
    tracklets = TrackletSet(rows, np.arange(count) // CROWD, unknown, unknown, np.arange(count + 1))
    trace, search = Trace(), [0.0]

    def timed(*given: Any, **how: Any) -> Any:
        begun = time.perf_counter()
        found = nearest_neighbors(*given, **how)
        search[0] += time.perf_counter() - begun
        return found

    begun = time.perf_counter()
    with patch.object(import_module("reappear.denoise.average_link"), "nearest_neighbors", timed):
        found = average_link(
            tracklets, Assignment.untouched(tracklets), place=tracklets.video % PLACES, trace=trace, products=products
        )
    seconds = time.perf_counter() - begun
    return {
        "tracklets": count,
        "identities": found.identities,
        "skipped_neighbors": trace.skipped["average-link"],
        "seconds": round(seconds, 2),
        "search_seconds": round(search[0], 2),
        "rest_seconds": round(seconds - search[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing kept")
    quick = parser.parse_args().quick
    machine, rows = measure.machine(), []
    for count in SIZES:
        rows.append({**to_identities(count // 10 if quick else count), "peak_mb": round(measure.peak_mb())})
        print(rows[-1], flush=True)
    searches = [(2 * row["tracklets"] ** 2 * linking.WIDTH, row["search_seconds"]) for row in rows]
    rest = linking.line([row["tracklets"] for row in rows], [row["rest_seconds"] for row in rows])
    figures = {
        "width": linking.WIDTH,
        "rows": rows,
        "operations_of_the_search_per_second": round(searches[-1][0] / searches[-1][1]),
        "rest": rest,
    }
    print({key: figures[key] for key in list(figures)[2:]})
    if not quick:
        measure.keep("average", figures, machine)


if __name__ == "__main__":
    main()
