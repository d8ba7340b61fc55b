"""`reappear paper`: the tables and figures of a paper from their recipes."""

import contextlib
import functools
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .progress import listener


def paper(
    recipe: Annotated[Path, typer.Argument(help="A recipe of a table or figure, such as recipes/paper/table4.yaml.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder; recipes may share it, and what they need.")],
    scale: Annotated[
        str, typer.Option(help="full: the paper's data and settings; tiny: a synthetic world, minutes on one core.")
    ] = "full",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PATH: where a data set or file lies that the recipe names; repeatable; none if not given.",
        ),
    ] = None,
    rows: Annotated[
        list[str] | None, typer.Option("--row", help="A row to run; repeatable; all of the scale if not given.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, each with its own models.", min=1, max=1000)] = 1,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0, max=2**31)] = 0,
    gpus: Annotated[int, typer.Option(help="Processes of commands that begin with torchrun.", min=1, max=4096)] = 8,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands, one a line, and run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; notes only.")] = False,
) -> None:
    """Runs the recipe of a table or figure of the paper, and writes it with the paper's numbers beside ours.

    reappear paper recipes/paper/table4.yaml --out paper --scale tiny

    reappear paper recipes/paper/table4.yaml --out paper --dry-run

    Each row is a chain of reappear's own commands. The same command goes on after it was stopped; rows that failed are
    listed, and the others go on. Writes OUT/SCALE/NAME.md, .json, .csv, and .svg of a figure.
    """
    from reappear.core import InputError, SettingsError, counted, unknown_name
    from reappear.pipeline.paper import Request, commands_of, paper, plan, read_recipe

    if scale not in ("full", "tiny"):
        raise SettingsError(f"scale: {unknown_name('scale', scale, ['full', 'tiny'])}")
    named = dict(_named(text) for text in data or [])
    request = Request(recipe, out, scale, named, rows or (), seed, seeds, gpus)  # type: ignore[arg-type]
    if dry_run:
        for words in commands_of(plan(read_recipe(recipe), request, dry=True)):
            typer.echo(shlex.join(words))
        return
    page, missing = paper(request, functools.partial(prepare, quiet=quiet), progress=listener(quiet))
    typer.echo(page.with_suffix(".json" if as_json else ".md").read_text(encoding="utf-8").rstrip("\n"))
    if not missing:
        typer.echo(f"paper: {page}", err=True)
    if missing:
        raise InputError(f"not filled: {counted(missing, 'row')}; {page} says why; the same command tries them again")


def _named(text: str) -> tuple[str, str]:
    from reappear.core import SettingsError

    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise SettingsError(f"data: must be NAME=PATH, got {text!r}")
    return name, path


def prepare(words: tuple[str, ...], *, quiet: bool = False) -> Callable[[], None]:
    """Parses a command of a recipe; the result runs it: here, or as processes of torchrun.

    Raises:
        SettingsError: It is no command of a step, or its arguments are wrong.
    """
    from reappear.pipeline.paper import split_command

    processes, step, arguments = split_command(words)
    if quiet:
        arguments = (*arguments, "--quiet")
    command = parse(step, arguments)
    if processes is not None:
        return functools.partial(_torchrun, processes, (step, *arguments))

    def run() -> None:
        with contextlib.redirect_stdout(sys.stderr):  # stdout has the table alone
            command()

    return run


def parse(step: str, arguments: Sequence[str]) -> Callable[[], None]:
    """Parses the arguments of a command as the command line does; the result runs it.

    Raises:
        SettingsError: An argument is wrong.
    """
    from reappear.core import SettingsError

    app, parsed = _parser(step)
    line = shlex.join(["reappear", step, *arguments])
    try:
        app([step, *arguments], standalone_mode=False)
    except SettingsError as error:
        raise SettingsError(f"{error} (in: {line})") from error
    except Exception as error:
        message = getattr(error, "format_message", None)  # of Click's UsageError
        if message is None:
            raise
        raise SettingsError(f"{' '.join(message().split())} (in: {line})") from error
    if not parsed:  # --help
        raise SettingsError(f"{line!r} runs nothing; leave out --help")
    return parsed.pop()


@functools.cache
def _parser(step: str) -> tuple[Callable[..., Any], list[Callable[[], None]]]:
    """The command line of a step, which runs nothing: it appends what would be run to the list."""
    from .app import build

    parsed: list[Callable[[], None]] = []

    def instead(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def append(*given: Any, **named: Any) -> None:
            parsed.append(functools.partial(command, *given, **named))

        return append

    return typer.main.get_command(build(step, instead)), parsed


def _torchrun(processes: int, arguments: Sequence[str]) -> None:
    """Runs a command as processes of torchrun on this machine, which end with this one when it is stopped."""
    from reappear.core import ReappearError

    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with subprocess.Popen([*line, "-m", "reappear", *arguments], stdout=sys.stderr) as child:  # noqa: S603 (no shell)
        try:
            code = child.wait()
        except BaseException:
            child.terminate()  # torchrun ends its processes
            child.wait()
            raise
    if code:
        raise ReappearError(f"torchrun ended with exit code {code}: {shlex.join(arguments)}; see its messages above")
