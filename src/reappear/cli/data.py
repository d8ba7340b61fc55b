"""The commands on data sets."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .progress import listener

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def data() -> None:
    """Public data sets: lists the supported layouts and checks copies."""


def list_sets(
    as_json: Json = False,
) -> None:
    """Lists the supported layouts with their published counts."""
    from reappear.data import READERS, Counts

    def _format(counts: Counts) -> str:
        return ", ".join(f"{n:,} {what}" for what, n in vars(counts).items() if n is not None)

    if as_json:
        plain = {
            name: {
                "description": layout.description,
                "folders": layout.folders,
                "published": {split: vars(counts) for split, counts in layout.published.items()},
            }
            for name, layout in READERS.items()
        }
        typer.echo(json.dumps(plain, indent=2))
        return
    for name, layout in READERS.items():
        typer.echo(f"{name:<17} {layout.description}")
        for split, counts in layout.published.items():
            typer.echo(f"{'':<17}   {split}: {_format(counts)}")


def check_set(
    name: Annotated[str, typer.Argument(help="Layout of the set, see `reappear data list`.")],
    root: Annotated[
        Path | None, typer.Argument(help="Folder of the set; searched in REAPPEAR_DATASETS if not given.")
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Decode every image to its end.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; notes only.")] = False,
) -> None:
    """Compares a copy of a data set with the published counts. Exit code 0: complete; 1: not complete."""
    from reappear.core import counted
    from reappear.data import READERS, check, locate, read

    place = locate(name, root)
    progress = listener(quiet)
    table = read(name, place)
    found = check(table, READERS[name], place, images=images, progress=progress)
    if as_json:
        typer.echo(json.dumps({"layout": name, "root": str(place), **found.to_plain()}, indent=2))
    else:
        typer.echo(f"{name} in {place}: {counted(len(table), 'image')}")
        width = max((len(line.split) for line in found.lines), default=0)
        for line in found.lines:
            typer.echo(
                f"{'ok ' if line.ok else 'BAD'}  {line.split:<{width}}  {line.what:<11}  "
                f"{line.found:>10,} of {line.published:>10,}  {'' if line.ok else line.status()}".rstrip()
            )
        if not found.lines:
            typer.echo("no published counts for this layout")
        for text in found.missing:
            typer.echo(f"missing: {text}")
        for reason, count in found.skipped.items():
            typer.echo(f"left out: {reason}: {count:,}")
        for path, reason in found.unreadable.items():
            typer.echo(f"unreadable: {path}: {reason}")
        typer.echo("complete" if found.complete else "not complete")
    if not found.complete:
        raise typer.Exit(1)
