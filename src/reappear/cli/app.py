"""The commands: arguments in, one step called, tables and progress out.

Exit codes: 0 done (also when some inputs were skipped: they are listed), 1 could not be done, 2 wrong usage,
130 stopped by Ctrl-C or SIGTERM.
"""

import dataclasses
import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer

from .data import check_set, data, list_sets
from .paper import paper
from .plain import PlainCommand, PlainGroup
from .progress import listener
from .signals import is_first_process
from .weights import add, download, list_weights, verify, weights

Command = Callable[..., None]

Out = Annotated[Path, typer.Option("--out", "-o", help="The workspace folder; made if missing, continued if begun.")]
Videos = Annotated[
    list[Path],
    typer.Argument(
        help="Video files, folders of them, MOTChallenge sequences; a set of `reappear data list`; X.npy with X.csv."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; notes only.")]
Work = Annotated[Path, typer.Argument(help="A workspace folder.")]
Name = Annotated[str, typer.Option("--name", "-n", help="Name of the result in the workspace.")]

Resume = Annotated[
    str,
    typer.Option(
        help="auto: continue a stopped training with the same settings; never: discard it; PATH: continue from "
        "the checkpoint (file or folder) of the same training elsewhere. To start a new training from weights, see "
        "--init."
    ),
]

_PIPELINE = "reappear.pipeline"
_MOST = 2**63 - 1  # numbers of tracklets and crops are 64-bit
_LARGEST = 16_384  # pixels of a side


def demo(
    settings: Any,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("demo"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Renders a synthetic world, runs the whole pipeline on it, and compares the model with its baselines.

    Needs no data, no weights and no network. With one seed it takes some minutes on two cores.
    """
    page = _step("demo")(out, settings, progress=listener(quiet))
    _print_report(page, as_json)


def run(
    settings: Any,
    videos: Videos,
    out: Out,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Runs all steps on videos, in rounds: ingest, embed, correlate, pretrain; then writes a report.

    Without --extractor, round 0 embeds with a colour descriptor that needs no weights; each later round embeds with
    the model of the round before. It can be stopped at any time; the same command continues. After videos were added,
    removed or repaired, it processes the new ones alone, and people keep their numbers.
    """
    page = _step("run")(videos, _workspace(out), settings, progress=listener(quiet))
    _print_report(page, as_json)


def ingest(
    settings: Any,
    videos: Videos,
    out: Out,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Videos to crops: detects, tracks and crops people. Labelled images and embeddings are imported unchanged."""
    _print_record(_step("ingest")(videos, _workspace(out), settings, progress=listener(quiet)), as_json)


def embed(
    settings: Any,
    work: Work,
    name: Name = "round0",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Crops to embeddings: --extractor color, an ONNX or OpenVINO file, a timm name, or a model folder."""
    _print_record(_step("embed")(_workspace(work), name, settings, progress=listener(quiet)), as_json)


def correlate(
    settings: Any,
    work: Work,
    embeddings: Annotated[str, typer.Option(help="Name of the embeddings to read.")] = "round0",
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Name of the result; that of the embeddings if not given.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Earlier identities to start from; tracklets if not given.")] = None,
    numbers: Annotated[
        str | None,
        typer.Option(help="Earlier identities whose numbers are kept; new numbers from 0 if not given."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Embeddings to identities: removes noise from tracklets and links those of one person across videos."""
    made = _step("correlate")(
        _workspace(work),
        embeddings if name is None else name,
        settings,
        embeddings=embeddings,
        start=start,
        numbers=numbers,
        progress=listener(quiet),
    )
    _print_record(made, as_json)


def pretrain(
    settings: Any,
    work: Work,
    labels: Annotated[
        str | None,
        typer.Option(
            help='Name of identities, or "instance", "tracklet", "given", "true": what counts as one person for '
            "methods that learn from identities; round0 if not given. Other methods define it themselves."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            "-n",
            help="Name of the model; that of the labels and of the method, where it is not the default, if not given.",
        ),
    ] = None,
    resume: Resume = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Identities to a model, by contrast among them, by CION, or by a baseline (--method)."""
    from reappear.methods.registry import METHODS

    kind = settings.method.kind
    if name is None and METHODS[kind].labels == "identities":
        name = labels or "round0"
        name = name if kind == type(settings)().method.kind else f"{name}-{kind}"
    name = kind if name is None else name
    made = _step("pretrain")(_workspace(work), name, settings, labels=labels, resume=resume, progress=listener(quiet))
    _print_record(made, as_json)


def finetune(
    settings: Any,
    data: Annotated[
        str,
        typer.Option(
            help="The data set, whose training images have identities: a folder, LAYOUT:FOLDER (see `reappear data "
            "list`), or a workspace; workspace,identities=NAME:FOLDER for other identities than round0."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The workspace that gets models/NAME; made if missing; if not given, --data, a workspace.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Name of the model; that of the method if not given.")
    ] = None,
    resume: Resume = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tunes a model on labelled identities: pre-trained weights to a model for one data set.

    reappear finetune --data market1501:SETS --init work/models/round0 --out tuned

    Some of the training identities are held out (--validation-share), and the weights of the highest mAP on them are
    saved; the last ones too, in models/NAME/last. Test images are never read: score both by `reappear evaluate`.

    --init takes a model folder, whose architecture is then known, or any checkpoint that fits --backbone: the paper's,
    DINO's, LUP's, or timm's.
    """
    name = settings.method.kind if name is None else name
    place = None if out is None else _workspace(out)
    made = _step("finetune")(data, name, settings, out=place, resume=resume, progress=listener(quiet))
    _print_record(made, as_json)


def evaluate(
    settings: Any,
    data: Annotated[
        list[str],
        typer.Argument(
            help="Folders of data sets, LAYOUT:FOLDER, with options LAYOUT,split=3:FOLDER, or pairs of .npz files: "
            "query.npz gallery.npz."
        ),
    ],
    out: Out,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="color, a .onnx or .xml file, a model folder or a timm name; repeat to compare several "
            "with the first; the extractor of --extractor if not given."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", "-n", help="Name of the result; for a single model and data set only. Made of both if not given."
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ranks a gallery for each query: CMC, mAP, mINP, thresholds, and paired differences of models.

    Embeddings are cached: a second call computes only new models, protocols and sets. The page is evaluation.html.
    """  # fmt: skip
    written = _step("evaluate")(
        _workspace(out), settings, data=data, models=model or (), name=name, progress=listener(quiet)
    )
    if as_json:
        typer.echo(written.read_text(encoding="utf-8"))
    else:
        from reappear.core import read_json_object

        _print_evaluation(read_json_object(written), written)


def report(
    settings: Any,
    works: Annotated[list[Path], typer.Argument(help="A workspace, or several that differ only in their seed.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder; the first workspace if not given.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Writes report.html, one self-contained page, and report.json with all numbers."""
    page = _step("report")([_workspace(work) for work in works], out or works[0], settings, progress=listener(quiet))
    _print_report(page, as_json)


Whose = Annotated[str | None, typer.Option(help="Name of identities.", show_default="the newest")]


def explain(
    work: Work,
    identity: Annotated[
        int | None, typer.Argument(help="Number of the identity; --tracklet or --crop if not given.", min=0, max=_MOST)
    ] = None,
    tracklet: Annotated[
        int | None, typer.Option(help="Number of one of its tracklets; see above if not given.", min=0, max=_MOST)
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Number of one of its crops; see above if not given.", min=0, max=_MOST)
    ] = None,
    identities: Whose = None,
    picture: Annotated[
        Path | None, typer.Option(help="Writes its crops as a contact sheet to this .jpg or .png; none if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Explains an identity: its tracklets, links, near misses, crops that left it, and review decisions."""
    place = _workspace(work)
    why = _step("explain")(place, identities=identities, identity=identity, tracklet=tracklet, crop=crop)
    if as_json:
        typer.echo(json.dumps(why.plain(), indent=2))
    else:
        from .reasons import format_explanation

        typer.echo(format_explanation(why))
    if picture is not None:
        from reappear.pipeline.sheet import draw_sheet

        typer.echo(f"picture: {draw_sheet(place, why, picture)}", err=as_json)


def search(
    settings: Any,
    work: Work,
    query: Annotated[
        str,
        typer.Argument(
            help="An image file; crop:N, tracklet:N or identity:N; or a video (its path, or its name in the workspace) "
            "with --time and --box."
        ),
    ],
    time: Annotated[float | None, typer.Option(help="Seconds in the video; no video if not given.")] = None,
    box: Annotated[
        str | None, typer.Option(help="LEFT,TOP,RIGHT,BOTTOM in pixels; the whole image if not given.")
    ] = None,
    identities: Whose = None,
    embeddings: Annotated[
        str | None,
        typer.Option(help="Name of the embeddings that are compared.", show_default="the newest of a round, or of all"),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Writes query and sightings as a contact sheet; none if not given.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the sightings as CSV on stdout.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ranks where else a person was seen: tracklets by the distance of their nearest crop to the query.

    search WORK photo.jpg

    search WORK identity:12 --camera entrance

    search WORK hall_03.mp4 --time 12.5 --box 310,80,370,240

    The tracklets that a crop, tracklet or identity consists of are left out.
    """
    from reappear.core import SettingsError
    from reappear.pipeline.search import Query
    from reappear.pipeline.sheet import draw_search_sheet, require_new_picture

    from .sightings import format_sightings, parse_box, sightings_csv

    if as_csv and as_json:
        raise SettingsError("--csv and --json exclude each other; give one of the two")
    if picture is not None:
        require_new_picture(picture)
    place = _workspace(work)
    asked = Query(query, time, None if box is None else parse_box(box))
    found = _step("search")(
        place, asked, settings, identities=identities, embeddings=embeddings, progress=listener(quiet)
    )
    if as_json:
        typer.echo(json.dumps(found.plain(), indent=2))
    else:
        typer.echo(sightings_csv(found).rstrip("\n") if as_csv else format_sightings(found))
    if picture is not None:
        typer.echo(f"picture: {draw_search_sheet(place, found, picture)}", err=True)


def review(
    work: Work,
    decision: Annotated[str, typer.Argument(help="same, different, merge, split, or reject.")],
    numbers: Annotated[
        list[int], typer.Argument(help="Of tracklets, or of what an option below names.", min=0, max=_MOST)
    ],
    identities: Annotated[
        str | None,
        typer.Option(
            help="merge, reject: the numbers are of these identities. split: takes tracklets out of one. If not given, "
            "the numbers are of tracklets."
        ),
    ] = None,
    crops: Annotated[bool, typer.Option("--crops", help="reject: the numbers are of crops.")] = False,
    who: Annotated[
        str, typer.Option(help="Name of the reviewer; empty if not given.", envvar="REAPPEAR_REVIEWER")
    ] = "",
    note: Annotated[str, typer.Option(help="Reason; empty if not given.")] = "",
    as_json: Json = False,
) -> None:
    """Records a review decision, which `reappear correlate` then applies.

    same 12 47: these tracklets are one person; different 12 47: no two of them are.

    merge 3 9 --identities round0: these identities are one person.

    split 12 13 --identities round0: the others of their identity are another person.

    reject 12: shows no identifiable person; reject 311 --crops: of one crop.

    Later decisions win over earlier ones.
    """
    from reappear.pipeline.review import ReviewTarget

    made = _step("review")(_workspace(work), decision, ReviewTarget(numbers, crops, identities), who=who, note=note)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(made), indent=2))
    else:
        done = f"review: line {made.line} of {work / 'review.jsonl'}"
        typer.echo(f"{done}; run again, or correlate with a new --name, to apply it")


def export_data(
    settings: Any,
    work: Work,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.")],
    identities: Annotated[
        str | None,
        typer.Option(
            help='Name of identities, or "tracklet", "given", "true": the label of each crop.',
            show_default="the newest",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Exports crops with identities in a standard layout, sightings, boxes of frames, or likely label errors."""
    made = _step("export_data")(_workspace(work), out, settings, identities=identities, progress=listener(quiet))
    _print_record(made, as_json)


def render(
    settings: Any,
    work: Work,
    video: Annotated[str, typer.Argument(help="Name of a video in the workspace, or its path.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new .mp4 file.")],
    identities: Annotated[
        str | None,
        typer.Option(help='Name of identities, or "tracklet", "given", "true".', show_default="the newest"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Writes a video with the boxes of its people, coloured by identity; --blur heads or people to show it to others.

    Only people who were detected are blurred: look at the result before you hand it on.
    """
    made = _step("render")(_workspace(work), video, out, settings, identities=identities, progress=listener(quiet))
    typer.echo(f"video: {made}")


def export_model(
    settings: Any,
    model: Annotated[Path, typer.Argument(help="A model folder, such as WORK/models/round0.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Exports a model for other programs, and compares its vectors with those of the exported file."""
    _print_record(_step("export_model")(model, out, settings, progress=listener(quiet)), as_json)


def synthesize(
    settings: Any,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Renders a synthetic world: videos with ground truth across videos, and a test set of other people."""
    _print_record(_step("synthesize")(out, settings, progress=listener(quiet)), as_json)


def doctor(
    folder: Annotated[Path, typer.Argument(help="A workspace to check; or a folder for results.")] = Path(),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Checks this machine, and every file of a workspace against the checksums in its records.

    Exits with 1 if something is missing on the machine, or missing or damaged in the workspace.
    """
    from .doctor import check_machine, check_workspace

    findings = [*check_machine(folder), *check_workspace(folder, progress=listener(quiet))]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            typer.echo(f"{'ok ' if finding.ok else 'BAD'}  {finding.what:<{width}}  {finding.detail}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def models(
    which: Annotated[str, typer.Argument(help="A name for its card, or a pattern such as 'vit_*' for a table.")] = "*",
    height: Annotated[int, typer.Option(help="Height of images in pixels.", min=1, max=_LARGEST)] = 256,
    width: Annotated[int, typer.Option(help="Width of images in pixels.", min=1, max=_LARGEST)] = 128,
    as_json: Json = False,
) -> None:
    """Shows the 32 backbones of ReIDZoo, or any other of timm by its name: widths, parameters, cost."""
    from reappear.models import describe_model, list_models

    from .zoo import card, table

    names = list_models(which)
    found = [describe_model(name, height=height, width=width) for name in names or [which]]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
    else:
        typer.echo(card(found[0]) if which in (names or [which]) else table(found))


def _step(step: str) -> Any:
    return getattr(import_module(f"{_PIPELINE}.{step}"), step)


def _workspace(folder: Path) -> Any:
    from reappear.pipeline.workspace import Workspace

    return Workspace(folder)


def _expand_files(given: dict[str, Any]) -> None:
    """The suffix of `--extractor FILE` sets its kind; `--detector FILE.onnx`, or a name of weights, is YOLOX.

    `given` are dotted options, or a recipe.
    """
    for path, named in given.items():
        part = path.rpartition(".")[2]
        if isinstance(named, dict):
            _expand_files(named)
        elif isinstance(named, str) and part == "extractor":
            from reappear.models.extractors import ExtractorSettings, extractor_settings_for
            from reappear.pipeline.settings import to_plain

            if named not in {of.kind for of in get_args(ExtractorSettings)}:
                given[path] = to_plain(extractor_settings_for(named))
                _refuse_second(given, path, named)
        elif isinstance(named, str) and part == "detector":
            from reappear.store import known_weights

            if named.endswith(".onnx") or known_weights(named) is not None:
                given[path] = {"kind": "yolox", "weights": named}
                _refuse_second(given, path, named)


def _refuse_second(given: Mapping[str, Any], path: str, named: str) -> None:
    """Raises SettingsError where `--extractor FILE` has another `--extractor.weights` beside it."""
    from reappear.core import SettingsError

    for key in ("kind", "name", "weights"):
        first, second = given[path].get(key), given.get(f"{path}.{key}")
        if None not in (first, second) and first != second:
            raise SettingsError(f"{path}: {named} and {path}.{key} {second} exclude each other; give one of the two")


def _print_record(record: Any, as_json: bool) -> None:
    if not is_first_process():
        return
    if as_json:
        typer.echo(record.to_json())
        return
    left_out = {reason: count for reason, count in record.dropped.items() if count}
    for title, rows in (("", record.counts), ("left out: ", left_out)):
        for name, value in rows.items():
            typer.echo(
                f"{title}{name.replace('_', ' ')}: {value:,.4g}"
                if isinstance(value, float)
                else f"{title}{name.replace('_', ' ')}: {value:,}"
            )
    typer.echo(f"{record.step}: {record.seconds:.1f} s" + (" (already done)" if record.already_done else ""))


def _print_evaluation(found: dict[str, Any], path: Path) -> None:
    from reappear.core import counted

    for examined in dict.fromkeys(of["data"] for of in found["evaluations"]):
        mine = [of for of in found["evaluations"] if of["data"] == examined]
        rows = [(f"{examined}, {mine[0]['protocol']}", "mAP", "95 %", "rank 1", "rank 5", "mINP", "queries")]
        for of in mine:
            percents = [f"{100 * v:.1f}" for v in (of["mean_ap"], of["cmc"][0], of["cmc"][:5][-1], of["mean_inp"])]
            spread = "-".join(f"{100 * bound:.1f}" for bound in of["intervals"]["mean_ap"])
            valid = f"{of['valid_queries']:,} of {of['queries']:,}"
            rows.append((of["label"], percents[0], spread, *percents[1:], valid))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for first, *rest in rows:
            cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
            typer.echo("  ".join([f"{first:<{widths[0]}}", *cells]))
        for of in mine:
            for reason, count in (of["reasons"] | of["skipped"]).items():
                typer.echo(f"{of['label']}: left out: {reason}: {count:,}")
            for point in (of["verification"] or {"points": []})["points"]:
                if point["threshold"] is not None:
                    typer.echo(
                        f"{of['label']}: threshold {point['threshold']:.3f}: false-match rate "
                        f"{100 * point['wanted']:g} %, true-match rate {100 * point['true_match_rate']:.1f} %"
                    )
    for of in found["means"]:
        percents = [f"{100 * v:.1f}" for v in (of["mean_ap"], of["cmc"][0], of["cmc"][:5][-1], of["mean_inp"])]
        line = "mAP {}, rank 1 {}, rank 5 {}, mINP {}".format(*percents)
        typer.echo(f"{of['set']}, mean of {counted(of['splits'], 'split')}: {of['label']}: {line}")
    for one in found["differences"]:
        line = one.get("why_not") or "{:+.1f} mAP ({:+.1f} to {:+.1f}), sign flips in {:.1f} % of resamples".format(
            *(100 * one["mean_ap"][key] for key in ("mean", "low", "high", "sign_flip_rate"))
        )
        typer.echo(f"{one['second']} against {one['first']} on {one['data']}: {line}")
    typer.echo(f"page: {path.with_suffix('.html')}")


def _print_report(page: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(page.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        from reappear.core import read_json_object

        typer.echo(read_json_object(page.with_suffix(".json"), "summary")["summary"])
        typer.echo(f"report: {page}")


@dataclass(frozen=True)
class Entry:
    """A command and its settings class, or a group of commands."""

    command: Command
    panel: str
    settings: str = ""
    group: Mapping[str, Command] = field(default_factory=dict)
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    excludes: Mapping[str, tuple[str, str]] = field(default_factory=dict)


_INGEST_SHORTCUTS = {
    name: f"ingest.{name}"
    for name in (
        "detector",
        "tracker",
        "crop",
        "stride",
        "camera",
        "workers",
        "layout",
        "labels_are_truth",
        "truth_ids",
    )
}
_RUN_FIRST = (
    "extractor",
    "detector",
    "detector.weights",
    "camera",
    "stride",
    "rounds",
    "retrain",
    "pretrain.backbone",
    "pretrain.steps",
    "pretrain.seed",
    "pretrain.device",
    "correlate.memory",
    "workers",
)
_PRETRAIN_FIRST = (
    "method",
    "backbone",
    "init",
    "steps",
    "images-per-step",
    "lr",
    "seed",
    "device",
    "workers",
    "validation",
)
_FINETUNE_FIRST = (
    "method",
    "init",
    "backbone",
    "height",
    "width",
    "epochs",
    "images-per-step",
    "lr",
    "seed",
    "device",
    "workers",
    "validation-share",
)
_MODEL_ADVICE = (
    "for a network with a file of weights give --extractor model --extractor.name NAME --extractor.weights FILE; for "
    "several models give --model for each, and no --extractor"
)
COMMANDS = {
    "demo": Entry(demo, "Whole pipeline", "demo:DemoSettings"),
    "run": Entry(run, "Whole pipeline", "run:RunSettings", shortcuts=_INGEST_SHORTCUTS, first=_RUN_FIRST),
    "paper": Entry(paper, "Whole pipeline"),
    "ingest": Entry(ingest, "Steps", "ingest:IngestSettings"),
    "embed": Entry(embed, "Steps", "embed:EmbedSettings"),
    "correlate": Entry(correlate, "Steps", "correlate:CorrelateSettings"),
    "pretrain": Entry(pretrain, "Steps", "pretrain:PretrainSettings", first=_PRETRAIN_FIRST),
    "finetune": Entry(finetune, "Steps", "finetune:FinetuneSettings", first=_FINETUNE_FIRST),
    "evaluate": Entry(evaluate, "Steps", "evaluate:EvaluateSettings", excludes={"model": ("extractor", _MODEL_ADVICE)}),
    "render": Entry(render, "Steps", "render:RenderSettings"),
    "export-data": Entry(export_data, "Steps", "export_data:ExportDataSettings"),
    "export-model": Entry(export_model, "Steps", "export_model:ExportModelSettings"),
    "report": Entry(report, "Steps", "report:ReportSettings"),
    "explain": Entry(explain, "Review"),
    "review": Entry(review, "Review"),
    "search": Entry(search, "Review", "search:SearchSettings", first=("top", "camera", "after", "before", "memory")),
    "synthesize": Entry(synthesize, "Steps", "synthesize:SynthesizeSettings"),
    "data": Entry(data, "Data", group={"list": list_sets, "check": check_set}),
    "weights": Entry(weights, "Data", group={"list": list_weights, "download": download, "add": add, "verify": verify}),
    "models": Entry(models, "Help"),
    "doctor": Entry(doctor, "Help"),
}


def build(named: str | None, instead: Callable[[Command], Command] = lambda command: command) -> typer.Typer:
    """The application. Only the named command imports its step, so that `reappear --help` is fast.

    Args:
        named: The command that will be called.
        instead: Makes of a command what is called in its place, with the same signature.
    """
    app = typer.Typer(
        name="reappear",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        cls=PlainGroup,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback(invoke_without_command=True)(_root)
    command: Command
    for name, entry in COMMANDS.items():
        command = instead(entry.command)
        kind: type[PlainCommand] = PlainCommand
        if entry.settings and name == named:
            from .options import with_settings

            where = f"{_PIPELINE}.{entry.settings}"
            command, kind = with_settings(command, where, entry.shortcuts, entry.first, _expand_files, entry.excludes)
        elif entry.settings:
            command = _listed(command)
        elif entry.group:
            app.add_typer(_grouped(entry), name=name, rich_help_panel=entry.panel)
            continue
        app.command(name, cls=kind, rich_help_panel=entry.panel)(command)
    return app


def _grouped(entry: Entry) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=entry.command.__doc__, rich_markup_mode=None, cls=PlainGroup)
    for name, command in entry.group.items():
        group.command(name, cls=PlainCommand)(command)
    return group


def _listed(command: Command) -> Command:
    """A placeholder with the help of the command, for the list of commands."""

    def listed() -> None: ...

    listed.__doc__ = command.__doc__
    return listed


def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Videos of people in, a person re-identification model out, without labels.

    Exit codes: 0 done (inputs that were skipped are listed), 1 could not be done, 2 wrong usage, 130 stopped by Ctrl-C
    or SIGTERM (the same command continues).
    """
    if version:
        from reappear import __version__

        typer.echo(f"reappear {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Errors of reappear are printed in one line; their class determines the exit code.

    For signals see `exit_on_signals`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names that the terminal's encoding lacks are escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        Path.cwd()
    except OSError as error:  # no path can be looked up, and the library of matrix products ends the process
        _exit_with(f"the current folder cannot be entered ({(error.strerror or '').lower()}); change to another", 1)
    if any("\0" in argument for argument in arguments):
        _exit_with("an argument has a NUL character, which no path or name can have; leave it out", 2)
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    try:
        build(named)(arguments)
    except MemoryError:
        _exit_with("out of memory; lower the batch or the memory setting of this step", 1)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        _exit_with_error(error)


def _exit_with_error(error: Exception) -> None:
    from reappear.core import ReappearError, SettingsError, describe_out_of_memory

    if isinstance(error, ReappearError):
        _exit_with(str(error), 2 if isinstance(error, SettingsError) else 1)
    if found := describe_out_of_memory(error):
        _exit_with(f"{found}; lower the batch or the memory setting of this step, or choose --device cpu", 1)
    if isinstance(error, ImportError) and "libGL" in str(error):
        from .doctor import HEADLESS

        _exit_with(f"OpenCV cannot be imported ({error}); {HEADLESS}", 1)
    if os.environ.get("REAPPEAR_DEBUG"):
        raise error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _exit_with("the result cannot be printed: the disk is full; free some space, or print to another place", 1)
    if isinstance(error, OSError) and error.filename is not None:
        _exit_with(f"{str(error.filename)[:200]!r}: {(error.strerror or str(error)).lower()}; check the path", 1)
    _exit_with(
        f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]} "
        "(a bug in reappear: run again with REAPPEAR_DEBUG=1 for the traceback, and report it)",
        1,
    )


def _exit_with(message: str, code: int) -> NoReturn:
    from reappear.core.files import printable

    typer.echo(f"reappear: {printable(message)}", err=True)
    sys.exit(code)
