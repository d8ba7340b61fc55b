"""The commands on weights of public networks."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from .progress import listener

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; notes only.")]


def weights() -> None:
    """Weights of public networks: lists, downloads, adds and verifies them. Nothing else downloads anything."""


def list_weights(as_json: Json = False) -> None:
    """Lists known weights and those on this machine, with their licences."""
    from reappear.store import WEIGHTS, WeightsCache

    cache = WeightsCache()
    here = cache.names()
    if as_json:
        plain = [dataclasses.asdict(entry) | {"here": entry.name in here} for entry in WEIGHTS.values()]
        plain += [{"name": name, "here": True, "source": "added"} for name in here if name not in WEIGHTS]
        typer.echo(json.dumps(plain, indent=2))
        return
    for entry in WEIGHTS.values():
        place = "here" if entry.name in here else "download" if entry.can_be_downloaded else "add FILE"
        typer.echo(f"{entry.name:<35} {entry.purpose:<9}  {entry.size / 1e6:6.1f} MB  {place:<8}  {entry.title}")
        typer.echo(
            f"{'':<35} code: {entry.code_licence}; weights: {entry.weights_licence}; "
            f"training data: {entry.training_data}"
        )
    for name in here:
        if name not in WEIGHTS and (found := cache.get(name)) is not None:
            typer.echo(f"{name:<35} {'own':<9}  {found.size / 1e6:6.1f} MB  {'here':<8}  {found.path}")
    typer.echo(f"folder: {cache.folder}")


def download(
    name: Annotated[str, typer.Argument(help="A name of `reappear weights list`.")],
    quiet: Quiet = False,
) -> None:
    """Downloads weights over https and checks their SHA-256. Continues a broken download.

    Refused where REAPPEAR_OFFLINE=1. The folder is REAPPEAR_HOME/weights; ~/.cache/reappear/weights if it is not set.
    """
    from reappear.core import SettingsError, unknown_name
    from reappear.pipeline.download import download_weights
    from reappear.store import WEIGHTS, WeightsCache

    if name not in WEIGHTS:
        raise SettingsError(f"name: {unknown_name('weights', name, [*WEIGHTS])}")
    entry = WEIGHTS[name]
    found = download_weights(entry, WeightsCache(), progress=listener(quiet))
    typer.echo(f"weights: {found.path}")
    typer.echo(f"licence of the weights: {entry.weights_licence}; training data: {entry.training_data}")


def add(
    file: Annotated[Path, typer.Argument(help="An .onnx, .xml (with its .bin), .pth or .safetensors file.")],
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help="Name of the weights; if not given, the known one, or the file's own."),
    ] = None,
) -> None:
    """Copies weights into the folder of weights, so that their name can stand for their path."""
    from reappear.store import WEIGHTS, WeightsCache

    found = WeightsCache().add(file, name)
    entry = WEIGHTS.get(found.name)
    sha256 = found.manifest["files"][found.path.name]["sha256"]
    typer.echo(f"weights: {found.path}")
    if entry is None:
        typer.echo(f"{found.name}: own weights, SHA-256 {sha256}")
    elif sha256 in (entry.files[0].sha256, *entry.variants):
        typer.echo(f"{found.name}: {entry.title}, a known file")
    else:
        typer.echo(f"{found.name}: not one of the known files of this name, SHA-256 {sha256}")


def verify(as_json: Json = False) -> None:
    """Compares all weights on this machine with their SHA-256. Exits with 1 if one is damaged or unfinished."""
    from reappear.store import WeightsCache

    cache = WeightsCache()
    checked = [cache.verify(name) for name in cache.names()]
    unfinished = [name for name in cache.unfinished() if name not in cache.names()]
    if as_json:
        plain = [{"name": one.name, "ok": not one.problems, "problems": one.problems} for one in checked]
        plain += [{"name": name, "ok": False, "problems": ["the download is not finished"]} for name in unfinished]
        typer.echo(json.dumps(plain, indent=2))
    else:
        for one in checked:
            typer.echo(f"{'BAD' if one.problems else 'ok '}  {one.name}  {'; '.join(one.problems)}".rstrip())
        for name in unfinished:
            typer.echo(f"BAD  {name}  the download is not finished: reappear weights download {name}")
        typer.echo(f"{len(checked)} in {cache.folder}")
    if unfinished or any(one.problems for one in checked):
        raise typer.Exit(1)
