import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reappear.core import InputError

from .atomic import write_text, writing


def write_embeddings(folder: Path, vectors: Float[np.ndarray, "n d"], meta: dict[str, Any]) -> None:
    """Writes `vectors.npy` (float16 unit rows; zeros = an image that could not be embedded) and `meta.json`."""
    with writing(folder / "vectors.npy") as aside, aside.open("wb") as file:
        np.save(file, np.asarray(vectors, np.float16))
    write_text(
        folder / "meta.json",
        json.dumps({**meta, "rows": len(vectors), "width": vectors.shape[1]}, indent=2) + "\n",
    )


def read_embeddings(folder: Path) -> tuple[Float[np.ndarray, "n d"], dict[str, Any]]:
    """The vectors as a float16 memory map, and what is known of them."""
    try:
        vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is missing; run `reappear embed` first") from error
    except ValueError as error:
        raise InputError(f"{folder}: not readable as embeddings ({error}); run `reappear embed` again") from error
    return vectors, meta
