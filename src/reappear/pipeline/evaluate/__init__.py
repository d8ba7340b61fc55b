"""evaluate: scores models on labelled data sets (CMC, mAP, mINP, verification) and compares them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reappear.core import SILENT, Progress, SettingsError, counted
from reappear.models.extractors import ColorSettings, ExtractorSettings, ModelSettings, extractor_settings_for
from reappear.pipeline.contents import hash_files, hash_images, hash_value
from reappear.pipeline.embed import as_recorded
from reappear.pipeline.pages import require_own_page
from reappear.pipeline.record import Outcome, Record, run_step
from reappear.pipeline.workspace import Workspace

from .compare import compare
from .score import score
from .settings import EvaluateSettings
from .splits import check_cameras, read_split, set_name
from .tracklets import embed_tracklets, read_tracklets
from .vectors import VectorSettings, embed_split, read_embedded, read_files

__all__ = ["EvaluateSettings", "evaluate", "evaluate_files", "evaluate_one"]

_OF_SETS = ("extractor", "split", "identities", "query_camera", "tracklet", "flip")  # settings without effect on .npz


def evaluate(
    work: Workspace,
    settings: EvaluateSettings,
    *,
    data: Sequence[str | Path],
    models: Sequence[str] = (),
    name: str | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Evaluates every model on every data set and compares the results.

    Args:
        work: Vectors, one folder an evaluation, and evaluation.{html,json} go here.
        settings: Protocol and all else that the evaluations share.
        data: Folders, LAYOUT:FOLDER, LAYOUT,OPTION=VALUE:FOLDER, or `.npz` files of embeddings in pairs: query,
            gallery.
        models: What `--extractor` takes in short; the first is what the others are compared with. Empty: the
            extractor of the settings.
        name: Name of the result; for a single model and data set only.
        progress: Progress listener.

    Returns:
        evaluation.json; evaluation.html lies beside it.

    Raises:
        InputError: A set or a model cannot be read, or the protocol does not fit the set.
        SettingsError: Several evaluations are to have one name.
    """
    files = [Path(item) for item in data if str(item).endswith(".npz")]
    if not data:
        raise SettingsError("data: give folders, or .npz files of embeddings in pairs")
    if files and (len(files) != len(data) or models):
        raise SettingsError("embeddings bring their own vectors: give .npz files alone, without folders and --model")
    if files and (idle := [name for name in _OF_SETS if getattr(settings, name) != getattr(EvaluateSettings(), name)]):
        raise SettingsError(
            f"--{idle[0].replace('_', '-')} has no effect on .npz files, which bring their own vectors; leave it out"
        )
    if len(files) % 2:
        raise SettingsError(f"embeddings come in pairs, query.npz gallery.npz; got {counted(len(files), 'file')}")
    pairs = list(zip(files[::2], files[1::2], strict=True))
    extractors = [extractor_settings_for(model) for model in models] or [settings.extractor]
    labels = _unique_labels([query for query, _ in pairs] if files else [_path_of(one) for one in extractors])
    if name is not None and len(labels) * (1 if files else len(data)) > 1:
        raise SettingsError("name: several evaluations cannot have one name; leave it out")
    if name is not None:
        work.evaluation(name)  # raises for an invalid name
    work.make()
    require_own_page(work.root, "evaluation")
    names = []
    if files:
        for (query, gallery), label in zip(pairs, labels, strict=True):
            names.append(name or label + _variant(settings) + _rule(settings))
            evaluate_files(work, names[-1], settings, query=query, gallery=gallery, model=label, progress=progress)
        return compare(work, names, settings, progress=progress)
    sets = [set_name(item) for item in data]
    for twice in (one for one in sets if sets.count(one) > 1):
        raise SettingsError(
            f"two data sets have the name {twice}; rename a folder, or evaluate each with its own --out"
        )
    for item, called in zip(data, sets, strict=True):
        for label, extractor in zip(labels, extractors, strict=True):
            names.append(name or f"{label}{_variant(settings)}@{called}{_rule(settings)}")
            mine = replace(settings, extractor=extractor)
            evaluate_one(work, names[-1], mine, data=item, model=label, progress=progress)
    return compare(work, names, settings, progress=progress)


def evaluate_one(
    work: Workspace,
    name: str,
    settings: EvaluateSettings,
    *,
    data: str | Path,
    model: str | None = None,
    progress: Progress = SILENT,
) -> Record:
    """Evaluates one model on one data set and writes WORK/evaluations/NAME/{scores.json, ranking.npz}.

    Args:
        work: The workspace.
        name: Name of the evaluation.
        settings: Extractor and protocol.
        data: A folder, or LAYOUT:FOLDER.
        model: What the model is called; as its extractor if not given.
        progress: Progress listener.

    Raises:
        InputError: No query or gallery images, cameras are missing or there is only one, or no query has a match.
    """
    divided = read_split(data, split=settings.split, identities=settings.identities, query_camera=settings.query_camera)
    check_cameras(divided, settings.protocol)
    tracklet = settings.tracklet if settings.protocol == "video" and _takes_clips(settings.extractor) else "images"
    vectors = VectorSettings(extractor=settings.extractor, flip=settings.flip, tracklet=tracklet)
    label = model or _path_of(settings.extractor).name
    files = {f"extractor.{key}": path for key, path in settings.extractor.files.items()}
    images = hash_images(divided.table, work.hashes, progress=progress)

    def examine(staging: Path) -> Outcome:
        cached = f"{label}{'+flip' if settings.flip else ''}@{divided.name}"
        if tracklet == "images":
            folder, failed = embed_split(
                work, cached, divided, vectors, images=images, batch=settings.batch, progress=progress
            )
            query, gallery, extractor = read_embedded(folder, divided, protocol=settings.protocol)
        else:
            folder, failed = embed_tracklets(work, cached, divided, vectors, images=images, progress=progress)
            query, gallery, extractor = read_tracklets(folder, divided)
        description = {"name": name, "model": label, "data": divided.name, "extractor": extractor}
        return score(query, gallery, settings, description, divided.dropped | failed, staging, progress=progress)

    return run_step(
        work.evaluation(name),
        step="evaluate",
        settings=replace(settings, extractor=as_recorded(settings.extractor, work)),
        inputs={
            "images": images,
            "data": hash_value(divided, root=divided.root),
            "model": label,
            **hash_files(files, work.hashes),
        },
        work=examine,
        progress=progress,
    )


def evaluate_files(
    work: Workspace,
    name: str,
    settings: EvaluateSettings,
    *,
    query: Path,
    gallery: Path,
    model: str | None = None,
    progress: Progress = SILENT,
) -> Record:
    """Evaluates precomputed embeddings and writes WORK/evaluations/NAME/ as `evaluate_one` does.

    Args:
        work: The workspace.
        name: Name of the evaluation.
        settings: Protocol; extractor, split and what else makes vectors play no part.
        query: An `.npz` file with features, ids, and where there are any cameras and paths; see `read_files`.
        gallery: Another.
        model: What the embeddings are called; as the query's file if not given.
        progress: Progress listener.

    Raises:
        InputError: A file lacks something, or no query has a match.
    """
    queries, galleries = read_files(query, gallery, protocol=settings.protocol)
    description = {"name": name, "model": model or query.stem, "data": "embeddings", "extractor": "given"}
    return run_step(
        work.evaluation(name),
        step="evaluate",
        settings=settings,
        inputs={**hash_files({"query": query, "gallery": gallery}, work.hashes), "model": description["model"]},
        work=lambda staging: score(queries, galleries, settings, description, {}, staging, progress=progress),
        progress=progress,
    )


def _path_of(extractor: ExtractorSettings) -> Path:
    """A path whose last parts are a name."""
    if isinstance(extractor, ColorSettings):
        return Path("color")
    return Path(extractor.name) if isinstance(extractor, ModelSettings) else extractor.weights


def _takes_clips(extractor: ExtractorSettings) -> bool:
    return isinstance(extractor, ModelSettings) and extractor.takes_clips


def _unique_labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ, without the ending of a file."""
    plain = [path.with_suffix("") if path.suffix in (".onnx", ".xml", ".npz") else path for path in paths]
    for parts in range(1, max(len(path.parts) for path in plain) + 1):
        labels = ["-".join(part for part in path.parts[-parts:] if part != "/") for path in plain]
        if len(set(labels)) == len(labels):
            break
    else:
        raise SettingsError(f"the model {paths[0]} is given twice; name each once")
    return labels


def _variant(settings: EvaluateSettings) -> str:
    return ("+flip" if settings.flip else "") + ("+rerank" if settings.rerank else "")


def _rule(settings: EvaluateSettings) -> str:
    """Suffix of the name: protocol, split and identities where they differ from the defaults."""
    protocol = settings.protocol if settings.protocol != "market" else ""
    split = settings.split if settings.split != "own" else ""
    return "".join(f",{word}" for word in dict.fromkeys((protocol, split, settings.identities)) if word)
