"""export-model: a trained model as a file for other programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

from reappear.core import SILENT, InputError, Progress, counted, settings, unit_rows
from reappear.models.extractors import Extractor, extractor_settings_for
from reappear.models.preprocessing import Image
from reappear.store import FileHashes, write_text
from reappear.synthetic import TrackletPlan, render_tracklets

from .contents import hash_files
from .record import Outcome, Record, run_step

_LARGEST_DIFFERENCE = 1e-4  # of an element of unit vectors

_CARD = """
## This export

`{file}`: input `images`, float32, batch × 3 × {height} × {width}, {channels}, `(pixel / {scale:g} - mean) / std`, mean
{mean}, std {std}; output `embeddings`, float32, batch × {vector}, not of unit length. The batch is free.
Compare by cosine. On {crops} crops the unit vectors differ from those of the model by at most {difference:.1e}.
"""


@settings
class ExportModelSettings:
    """What to write."""

    to: Annotated[
        Literal["onnx", "openvino", "trackers"],
        "onnx: NAME.onnx; openvino: NAME.xml and NAME.bin; trackers: reid_config.json and weights.safetensors of "
        "roboflow's trackers",
    ] = "onnx"


def export_model(model: Path, out: Path, settings: ExportModelSettings, *, progress: Progress = SILENT) -> Record:
    """Writes a model for another program to `out`, with `config.json` and a model card, and compares their vectors.

    Args:
        model: A model folder.
        out: A new folder.
        settings: What to write.
        progress: Progress listener.

    Raises:
        InputError: There is no model, its network has no such form, or the vectors differ by more than 1e-4.
        MissingExtra: A package is not installed.
        WorkspaceError: `out` is another folder.
    """
    for name in ("config.json", "model.safetensors"):
        if not (model / name).is_file():
            raise InputError(
                f"{model} is not a model folder: it has no {name}; give a folder such as WORK/models/round0"
            )
    inputs = hash_files({name: model / name for name in ("config.json", "model.safetensors")}, FileHashes())

    def fill(staging: Path) -> Outcome:
        from reappear.models import Embedder, portable

        embedder = Embedder.load(model)
        if embedder.clip_frames:
            progress.note(
                f"export-model: {model} is made for clips of {counted(embedder.clip_frames, 'frame')}; the exported "
                "file takes single images"
            )
        name = model.resolve().name
        images = _crops()
        vectors = embedder(images)
        counts: dict[str, int | float] = {"width": vectors.shape[1]}
        card = model / "README.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else f"# {embedder.config['architecture']}\n"
        config: dict[str, Any] = dict(embedder.config) | {"format": settings.to}
        if settings.to == "trackers":
            portable.write_trackers(embedder, staging)
        else:
            file = staging / f"{name}.onnx"
            portable.write_onnx(embedder, file)
            if settings.to == "openvino":
                portable.write_openvino(embedder, file, staging / f"{name}.xml")
                file.unlink()
                file = staging / f"{name}.xml"
            counts["crops_compared"] = len(images)
            difference = _difference(vectors, images, extractor_settings_for(str(file)).build(), file)
            counts["largest_difference"] = difference
            pre = embedder.preprocessing
            config |= {
                "input": {"name": portable.INPUT, "shape": ["batch", 3, pre.height, pre.width], "type": "float32"},
                "output": {"name": portable.OUTPUT, "shape": ["batch", vectors.shape[1]], "type": "float32"},
            }
            text += _CARD.format(
                file=file.name, vector=vectors.shape[1], crops=len(images), difference=difference, **vars(pre)
            )
        write_text(staging / "config.json", json.dumps(config, indent=2) + "\n")
        write_text(staging / "README.md", text)
        return Outcome(counts, made=sum(1 for _ in staging.iterdir()))

    return run_step(out, step="export-model", settings=settings, inputs=inputs, work=fill, progress=progress)


def _crops() -> list[Image]:
    """Crops of synthetic people, of several sizes."""
    images = render_tracklets(TrackletPlan(people=4, cameras=2, crops=2), height=160, width=64)[0]
    return [image[: 160 - 9 * (i % 8), : 64 - 5 * (i % 4)] for i, image in enumerate(images)]


def _difference(vectors: Float[np.ndarray, "n d"], images: Sequence[Image], exported: Extractor, file: Path) -> float:
    """The largest difference of an element of unit vectors, in one batch and of one image alone.

    Raises:
        InputError: It is above 1e-4.
    """
    expected = unit_rows(vectors)
    found = unit_rows(np.concatenate([exported(images), exported(images[:1])]))
    difference = float(np.abs(found - np.concatenate([expected, expected[:1]])).max())
    if not difference <= _LARGEST_DIFFERENCE:
        raise InputError(
            f"{file.name}: vectors differ from those of the model by {difference:.1e}, more than "
            f"{_LARGEST_DIFFERENCE:g}; nothing is exported: report it with the model's config.json"
        )
    return difference
