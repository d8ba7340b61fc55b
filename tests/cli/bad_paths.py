"""Every path of every command, as something that cannot be read or written there.

Runs as `python -m tests.cli.bad_paths LINE...`: each case in a process of its own,
which a signal ends after some seconds.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from reappear.cli.app import main
from tests.data.trees import draw

SECONDS = 20
LINES = [
    "ingest PATH --out NEW",
    "ingest SET --out PATH",
    "ingest SET --out NEW --layout market1501 --config PATH",
    "run PATH --out NEW",
    "run SET --out PATH",
    "embed PATH",
    "embed WORK --name new --extractor PATH",
    "embed WORK --name new --extractor PATH.onnx",
    "embed WORK --name new --extractor PATH.xml",
    "embed WORK --name new --extractor model --extractor.name small --extractor.weights PATH",
    "correlate PATH",
    "correlate WORK --name new --review PATH",
    "pretrain PATH",
    "pretrain WORK --name new --labels given --init PATH",
    "pretrain WORK --name new --labels given --validation PATH --validation-every 2",
    "pretrain WORK --name new --labels given --resume PATH",
    "finetune --data PATH --out NEW --backbone cnn6",
    "finetune --data market1501:PATH --out NEW --backbone cnn6",
    "finetune --data SET --out PATH --backbone cnn6",
    "finetune --data SET --out NEW --init PATH",
    "finetune --data SET --out NEW --backbone cnn6 --init PATH",
    "finetune --data SET --out NEW --backbone cnn6 --validation PATH",
    "finetune --data SET --out NEW --backbone cnn6 --resume PATH",
    "evaluate PATH --out NEW",
    "evaluate market1501:PATH --out NEW",
    "evaluate PATH.npz PATH.npz --out NEW",
    "evaluate SET --out PATH",
    "evaluate SET --out NEW --model PATH.onnx",
    "export-data PATH --out NEW",
    "export-data WORK --out PATH --identities given",
    "export-data WORK --out PATH --identities given --to sightings",
    "export-data WORK --out PATH --identities given --to mot",
    "render WORK PATH --out NEW.mp4 --identities given",
    "render PATH 0001 --out NEW.mp4",
    "export-model PATH --out NEW",
    "report PATH",
    "report WORK --out PATH",
    "explain PATH 0",
    "review PATH same 0 1",
    "search PATH crop:0",
    "search WORK PATH",
    "search WORK crop:0 --picture PATH",
    "synthesize --out PATH --people 2 --films 1 --appearances 1",
    "demo --out PATH",
    "paper PATH --out NEW",
    "paper RECIPE --out PATH --data images=SET",
    "paper RECIPE --out NEW --data images=PATH",
    "data check market1501 PATH",
    "models PATH",
    "weights add PATH",
]
RECIPE = """
title: A table
columns: {mAP: "{out}/evaluations/color mean_ap"}
rows: {color: {paper: [null]}}
full:
  data: {images: a folder}
  commands: ["reappear evaluate {images} --out {out} --name color --split cross-camera --query-camera 7"]
tiny: {}
"""


def _paths(folder: Path) -> dict[str, str]:
    (folder / "file").write_text("text")
    (folder / "dangling").symlink_to(folder / "nowhere" / "at all")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    return {
        "nul": f"{folder}/a\0b",
        "long": f"{folder}/{'x' * 300}",
        "long parent": f"{folder}/{'x' * 300}/a",
        "file": f"{folder}/file",
        "below a file": f"{folder}/file/a/b",
        "dangling": f"{folder}/dangling",
        "below dangling": f"{folder}/dangling/a",
        "loop": f"{folder}/loop",
        "below a loop": f"{folder}/loop/a",
        "pipe": f"{folder}/pipe",
        "device": "/dev/zero",
    }


def make_places(folder: Path) -> dict[str, str]:
    """A data set and a workspace of it."""
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        for person in (1, 2):
            for camera in (1, 2):
                draw(folder / "set" / split / f"{person:04d}_c{camera}s1_000001_00.png", seed=person, size=(32, 64))
    work = str(folder / "work")
    for line in (
        ["ingest", str(folder / "set"), "--layout", "market1501", "--out", work, "--workers", "1", "-q"],
        ["embed", work, "-q"],
    ):
        try:
            main(line)
        except SystemExit as stopped:
            if stopped.code:
                raise RuntimeError(f"{line} failed") from stopped
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    return {"SET": str(folder / "set"), "images=SET": f"images={folder / 'set'}", "WORK": work, "RECIPE": str(recipe)}


def call(words: list[str], message: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Exit code; negative for the signal that ended it. `prepare` is called in the process of the command."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os.dup2(os.open(message, os.O_RDWR | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code: object = 98
        try:
            prepare()
            main(words)
        except SystemExit as stopped:
            code = stopped.code or 0
        finally:
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 97)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check(lines: list[str]) -> list[str]:
    """What ended in anything but exit code 1 or 2 and one line."""
    wrong = []
    with tempfile.TemporaryDirectory() as place:
        places = make_places(Path(place))
        for number, line in enumerate(lines):
            folder = Path(place) / f"line{number}"
            folder.mkdir()
            for kind, path in _paths(folder).items():
                named = {**places, "NEW": str(folder / f"new {kind}")}
                words = [named.get(word, word.replace("PATH", path)) for word in line.split()]
                code = call(words, Path(place) / "message")
                message = (Path(place) / "message").read_text(errors="replace").strip().splitlines()
                own = [row for row in message if row.startswith("reappear: ")]
                if code not in (1, 2) or "bug in reappear" in " ".join(message) or (code == 1 and len(own) != 1):
                    wrong.append(f"{line}, {kind}: exit {code}: {' | '.join(message)[-300:]}")
    return wrong


if __name__ == "__main__":
    found = check(sys.argv[1:])
    sys.stderr.write("\n".join(found))
    sys.exit(bool(found))
