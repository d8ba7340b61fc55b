"""Every path of every command: what cannot be read or written there is one line, with exit code 1 or 2."""

import os
from pathlib import Path

import pytest

from reappear.cli.app import COMMANDS, main
from tests.data.trees import draw

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
    "pretrain WORK --name new --labels given --probe PATH",
    "pretrain WORK --name new --labels given --resume PATH",
    "evaluate PATH --out NEW",
    "evaluate market1501:PATH --out NEW",
    "evaluate PATH.npz PATH.npz --out NEW",
    "evaluate SET --out PATH",
    "evaluate SET --out NEW --model PATH.onnx",
    "export PATH --out NEW",
    "export WORK --out PATH --identities given",
    "report PATH",
    "report WORK --out PATH",
    "explain PATH 0",
    "review PATH same 0 1",
    "synthesize --out PATH --people 2 --films 1 --appearances 1",
    "demo --out PATH",
    "data check market1501 PATH",
    "models PATH",
]
WRITES = ("--out PATH", "review PATH")
TAKES_ANY = {("report WORK --out PATH", "file")}


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


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A data set and a workspace of it."""
    folder = tmp_path_factory.mktemp("places")
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        for person in (1, 2):
            for camera in (1, 2):
                draw(folder / "set" / split / f"{person:04d}_c{camera}s1_000001_00.png", seed=person, size=(32, 64))
    work = folder / "work"
    with pytest.raises(SystemExit) as stopped:
        main(["ingest", str(folder / "set"), "--layout", "market1501", "--out", str(work), "--workers", "1", "-q"])
    assert not stopped.value.code
    with pytest.raises(SystemExit) as stopped:
        main(["embed", str(work), "-q"])
    assert not stopped.value.code
    return {"SET": str(folder / "set"), "WORK": str(work)}


@pytest.mark.parametrize("line", LINES)
def test_bad_paths(line: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for number, (kind, path) in enumerate(_paths(tmp_path).items()):
        named = {**places, "NEW": str(tmp_path / f"new{number}")}
        words = [named.get(word, word.replace("PATH", path)) for word in line.split()]
        try:
            main(words)
            code: object = None
        except SystemExit as stopped:
            code = stopped.code
        except BaseException as error:
            code = error
        said = capsys.readouterr().err.strip().splitlines()
        last = [row for row in said if row.startswith("reappear: ")]
        if code not in (1, 2) or "fault of reappear" in " ".join(said) or (code == 1 and len(last) != 1):
            wrong.append(f"{kind}: {code!r} {' | '.join(said)[-300:]}")
    assert not wrong, "\n".join(wrong)


def test_every_command_is_in_the_table() -> None:
    assert {line.split()[0] for line in LINES} >= COMMANDS.keys() - {"doctor"}
