"""Embeddings of query and gallery: of images, embedded once for each model and set, or from files of embeddings."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from reappear.core import ImageTable, InputError, Progress, device_memory_errors, read_json_object, settings
from reappear.data import read_image
from reappear.metrics import RankingProtocol, digests
from reappear.models.extractors import ColorSettings, ExtractorSettings
from reappear.pipeline.contents import hash_files, hash_value
from reappear.pipeline.embed import as_recorded, embed_images
from reappear.pipeline.record import Outcome, read_record, run_step
from reappear.pipeline.settings import result_settings
from reappear.pipeline.workspace import Workspace
from reappear.store import atomic_write, read_npy, read_npz, write_text

from .splits import EvalSplit

TrackletVector = Literal["clip", "dense", "images"]

_NONE = ("-1", "")


@dataclass(frozen=True)
class LabelledEmbeddings:
    """Queries or a gallery, ready to be ranked.

    Attributes:
        vectors: One row each; of unit length where reappear made them.
        identity: -1 = junk.
        camera: -1 = unknown.
        path: Image of each row; "" where none is known.
        image: Under "no-camera" equal in query and gallery where it is the same image; -1 = compare the vectors.
    """

    vectors: Float[np.ndarray, "n d"]
    identity: Int[np.ndarray, " n"]
    camera: Int[np.ndarray, " n"]
    path: np.ndarray
    image: Int[np.ndarray, " n"]


@settings
class VectorSettings:
    """What vectors depend on besides the images."""

    extractor: Annotated[ExtractorSettings, "computes the embedding of an image"] = field(default_factory=ColorSettings)
    flip: Annotated[bool, "add the vector of the mirrored image"] = False
    tracklet: Annotated[TrackletVector, "vector of a tracklet"] = "images"


def embed_split(
    work: Workspace, name: str, split: EvalSplit, given: VectorSettings, *, images: str, batch: int, progress: Progress
) -> tuple[Path, dict[str, int]]:
    """Embeds the images once and keeps the vectors in WORK/vectors/, whatever the labels of the images.

    Args:
        work: The workspace.
        name: First part of the folder's name.
        split: The images.
        given: Extractor and all else that vectors depend on.
        images: What `hash_images` gives of the images.
        batch: Images at a time.
        progress: Progress listener.

    Returns:
        The folder with vectors.npy, a row for each image of the set (zeros where it cannot be embedded), and why images
        were left out.
    """
    files = {f"extractor.{key}": path for key, path in given.extractor.files.items()}
    inputs = {"images": images, **hash_files(files, work.hashes)}
    # Other images or another extractor go into another folder: users do not name these folders, so none is refused.
    folder = work.vectors(f"{name}-{hash_value([result_settings(given), inputs], root=work.root)[:8]}")

    def fill(staging: Path) -> Outcome:
        extractor = given.extractor.build()
        path = split.table.path
        vectors = np.zeros((len(path), extractor.width), np.float32)
        dropped: Counter[str] = Counter()
        with (
            device_memory_errors(f"lower batch, which is {batch}, or free the GPU of other programs"),
            progress.task(f"embedding {split.name} with {extractor.name}", len(path), "image") as tick,
        ):
            for begin in range(0, len(path), batch):
                some = slice(begin, begin + batch)
                vectors[some], failed = embed_images(
                    [_read(str(image)) for image in path[some]], extractor, flip=given.flip
                )
                dropped.update(failed)
                tick(len(path[some]))
        save_vectors(staging, vectors, extractor.name)
        made = len(path) - dropped.total()
        return Outcome({"images": len(path), "width": extractor.width}, dict(dropped), made=made)

    recorded = replace(given, extractor=as_recorded(given.extractor, work))
    run_step(folder, step="vectors", settings=recorded, inputs=inputs, work=fill, progress=progress)
    return folder, read_record(folder).dropped


def save_vectors(folder: Path, vectors: Float[np.ndarray, "n d"], extractor: str) -> None:
    """Writes vectors.npy, and the extractor's name into meta.json."""
    with atomic_write(folder / "vectors.npy") as out, out.open("wb") as file:
        np.save(file, vectors)
    write_text(folder / "meta.json", json.dumps({"extractor": extractor}) + "\n")


def read_vectors(folder: Path, rows: int, what: str) -> tuple[Float[np.ndarray, "n d"], str]:
    """What `save_vectors` wrote.

    Raises:
        InputError: It is damaged, or is not of `rows` images or tracklets, which `what` says.
    """
    vectors = read_npy(folder / "vectors.npy")
    extractor = read_json_object(folder / "meta.json", "extractor")["extractor"]
    if vectors.ndim != 2 or len(vectors) != rows:
        raise InputError(f"{folder / 'vectors.npy'} does not fit its {what}; remove {folder} and evaluate again")
    return vectors, str(extractor)


def read_embedded(
    folder: Path, split: EvalSplit, *, protocol: RankingProtocol
) -> tuple[LabelledEmbeddings, LabelledEmbeddings, str]:
    """Query, gallery, and the extractor's name, without images that could not be embedded.

    Args:
        folder: What `embed_split` wrote.
        split: The images.
        protocol: "video": images of one person, camera and sequence become one row, the mean of their unit vectors.
            "no-camera": images are identified by their contents.
    """
    vectors, extractor = read_vectors(folder, len(split.table.path), "images")
    query, gallery = (
        _select(vectors, split.table, np.flatnonzero(split.table.split == part), protocol)
        for part in ("query", "gallery")
    )
    return query, gallery, extractor


def read_files(
    query: Path, gallery: Path, *, protocol: RankingProtocol
) -> tuple[LabelledEmbeddings, LabelledEmbeddings]:
    """Reads embeddings from two `.npz` files.

    Each holds `features` (n d), `ids` (n), and where there are cameras `cameras` (n); `paths` (n) of images are for
    pictures, and under "no-camera" identify images that are in both files. Ids and cameras are whole numbers, or names;
    -1, or an empty name, is junk or unknown.

    Raises:
        InputError: A file lacks a key, holds Python objects, or the two do not fit each other or the protocol.
    """
    arrays = [_read_arrays(query), _read_arrays(gallery)]
    if protocol != "no-camera" and not any("cameras" in part for part in arrays):
        raise InputError(
            f"{query} and {gallery} hold no cameras, which the protocol {protocol} needs; save them as "
            f"cameras=, or choose --protocol no-camera"
        )
    if len({"cameras" in part for part in arrays}) > 1:
        lacks = (query, gallery)["cameras" in arrays[0]]
        raise InputError(f"{lacks} holds no cameras, and the other file does; give both, or take them out of both")
    for key in ("ids", "cameras"):
        _as_numbers(arrays, key, (query, gallery))
    for part in arrays:
        part.setdefault("cameras", np.full(len(part["ids"]), -1))
        part.setdefault("paths", np.full(len(part["ids"]), ""))
    first, second = (
        LabelledEmbeddings(part["features"], part["ids"], part["cameras"], part["paths"], image)
        for part, image in zip(arrays, _shared_paths(arrays), strict=True)
    )
    return first, second


def _select(vectors: np.ndarray, table: ImageTable, rows: np.ndarray, protocol: RankingProtocol) -> LabelledEmbeddings:
    good = rows[np.any(vectors[rows], axis=1)]
    if not len(good):
        split, first = table.split[rows[0]], table.path[rows[0]]
        raise InputError(f"no image of the {split} can be read, first {first}; check the files")
    image = np.full(len(good), -1)
    if protocol == "no-camera":
        image = digests(_read(path) for path in table.path[good].tolist())
    if protocol != "video":
        return LabelledEmbeddings(
            np.asarray(vectors[good]), table.identity[good], table.camera[good], table.path[good], image
        )
    keys = np.stack([table.identity[good], table.camera[good], table.sequence[good]])
    _, first, tracklet, counts = np.unique(keys, axis=1, return_index=True, return_inverse=True, return_counts=True)
    means = np.zeros((len(first), vectors.shape[1]), np.float32)
    np.add.at(means, tracklet.ravel(), vectors[good])
    means /= counts[:, None]
    some = good[first]
    return LabelledEmbeddings(means, table.identity[some], table.camera[some], table.path[some], image[first])


def _read(path: str) -> bytes:
    try:
        return read_image(path)
    except InputError:
        return b""  # counted with the images that cannot be decoded


def _read_arrays(path: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = read_npz(path, "features", "ids", "cameras", "paths")
    lacking = [key for key in ("features", "ids") if key not in arrays]
    if lacking:
        raise InputError(f"{path} holds no {' and no '.join(lacking)}; write it with numpy.savez(features=, ids=)")
    for key in arrays.keys() & {"ids", "cameras", "paths"}:
        if arrays[key].shape != arrays["features"].shape[:1]:
            raise InputError(
                f"{path}: {key} must have one value for each row of features, {arrays['features'].shape[:1]}, "
                f"got {arrays[key].shape}"
            )
        if arrays[key].dtype.kind not in ("U" if key == "paths" else "iuU"):
            what = "text" if key == "paths" else "whole numbers or text"
            raise InputError(f"{path}: {key} must be {what}, got {arrays[key].dtype}; convert them")
    return arrays


def _as_numbers(arrays: list[dict[str, Any]], key: str, paths: tuple[Path, Path]) -> None:
    """Names of both files become numbers by their order; -1, and the empty name, become -1."""
    named = [part[key].dtype.kind == "U" for part in arrays if key in part]
    if not any(named):
        return
    if not all(named):
        text, numbers = paths if named[0] else paths[::-1]
        raise InputError(f"{key} of {text.name} are names and those of {numbers.name} are numbers; write both alike")
    names = np.unique(np.concatenate([part[key] for part in arrays]))
    names = names[~np.isin(names, _NONE)]
    for part in arrays:
        part[key] = np.where(np.isin(part[key], _NONE), -1, np.searchsorted(names, part[key]))


def _shared_paths(arrays: list[dict[str, Any]]) -> list[np.ndarray]:
    """A key for each row whose path and person stand in both files; -1 for all others."""
    first, second = (
        digests(f"{who} {path}".encode() if path else b"" for who, path in zip(part["ids"], part["paths"], strict=True))
        for part in arrays
    )
    shared = np.setdiff1d(np.intersect1d(first, second), digests([b""]))
    return [np.where(np.isin(key, shared), key, -1) for key in (first, second)]
