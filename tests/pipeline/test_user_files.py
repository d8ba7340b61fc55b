"""No command removes, overwrites or leaves the workspace for a file of the user's."""

import inspect
import os
import shutil
import typing
from pathlib import Path

import numpy as np
import pytest

from reappear.cli.app import COMMANDS, main
from reappear.core import SettingsError, StorageError, WorkspaceError
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.pages import require_own_page, write_page
from reappear.pipeline.workspace import Workspace
from tests.cli.test_app import reappear
from tests.data.trees import draw

from .test_record import tree

MINE = "a file of the user"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with crops, embeddings and identities `round0`."""
    root = tmp_path_factory.mktemp("set")
    for i in range(24):
        draw(root / "bounding_box_train" / f"{1 + i // 6:04d}_c{1 + i % 2}s1_{i:06d}_00.jpg", i, size=(16, 32))
    work = tmp_path_factory.mktemp("made") / "w"
    for command in (["ingest", root, "--out", work], ["embed", work, "--extractor", "color"], ["correlate", work]):
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, command), "--quiet"])
        assert not stopped.value.code
    return root, work


@pytest.fixture
def work(made, tmp_path):
    """A copy of it, for one test."""
    shutil.copytree(made[1], tmp_path / "w")
    return tmp_path / "w"


# The arguments of each command that takes a text which becomes a name, less that text.
ARGUMENTS = {
    "embed": ["W"],
    "correlate": ["W"],
    "pretrain": ["W"],
    "finetune": ["--data", "SET", "--out", "W", "--backbone", "cnn6"],
    "evaluate": ["SET", "--out", "W", "--extractor", "color"],
    "export-data": ["W", "--out", "OUT"],
    "explain": ["W", "0"],
    "review": ["W", "merge", "0", "1"],
    "search": ["W", "crop:0"],
    "render": ["W", "0001", "--out", "OUT.mp4"],
    "paper": ["recipe.yaml", "--out", "OUT"],
}
NO_NAMES = {
    ("review", "decision"),
    ("review", "who"),
    ("review", "note"),
    ("pretrain", "resume"),
    ("finetune", "resume"),
    ("models", "which"),
    ("search", "query"),
    ("render", "video"),
    ("search", "box"),
}


def names():
    """Every option of every command that takes a text."""
    for command, entry in COMMANDS.items():
        for parameter in inspect.signature(entry.command).parameters.values():
            kind = (typing.get_args(parameter.annotation) or [parameter.annotation])[0]  # of Annotated[kind, ...]
            is_text = kind is str or kind == str | None
            if is_text and (command, parameter.name) not in NO_NAMES:
                yield command, parameter.name


@pytest.mark.parametrize("evil", ["../../evil", "q.partial", "a\nb", "x" * 300])
@pytest.mark.parametrize(("command", "option"), list(names()))
def test_names_cannot_leave_the_workspace(made, work, tmp_path, capsys, command, option, evil):
    places = {"W": str(work), "SET": str(made[0]), "OUT": str(tmp_path / "out")}
    arguments = [places.get(word, word) for word in ARGUMENTS[command]]
    before = tree(tmp_path)
    code, _, err = reappear(capsys, command, *arguments, f"--{option}", evil)
    assert code in (1, 2)
    assert "bug in reappear" not in err
    assert tree(tmp_path) == before
    assert not Path("/tmp/evil").exists()


def test_result_names_are_checked(tmp_path):
    work = Workspace(tmp_path)
    for folder in (work.embeddings, work.identities, work.model, work.evaluation, work.vectors):
        assert folder("round 0+flip@set,split=3").parent.parent == tmp_path
        with pytest.raises(SettingsError, match="evil"):
            folder("../evil")


# A command, and the places that it would write to.
PLACES = {
    "ingest": (["SET", "--out", "NEW"], ["NEW/crops", "NEW/crops.partial"]),
    "run": (["SET", "--out", "NEW"], ["NEW/crops", "NEW/crops.partial", "NEW/report.html", "NEW/report.json"]),
    "demo": (["--out", "NEW"], ["NEW/report.html", "NEW/report.json", "NEW/seed0/world", "NEW/seed0/world.partial"]),
    "synthesize": (["--out", "NEW"], ["NEW", "NEW.partial"]),
    "embed": (["W", "--extractor", "color", "-n", "q"], ["W/embeddings/q", "W/embeddings/q.partial"]),
    "correlate": (["W", "--name", "q"], ["W/identities/q", "W/identities/q.partial"]),
    "pretrain": (["W", "--name", "q", "--steps", "1"], ["W/models/q", "W/models/q.partial"]),
    "finetune": (
        ["--data", "SET", "--out", "W", "--name", "q", "--backbone", "cnn6", "--steps", "1"],
        ["W/models/q", "W/models/q.partial"],
    ),
    "evaluate": (
        ["SET", "--out", "W", "--extractor", "color", "--split", "first-image", "-n", "q"],
        ["W/evaluations/q", "W/evaluations/q.partial", "W/evaluation.html", "W/evaluation.json"],
    ),
    "export-data": (["W", "--out", "NEW"], ["NEW", "NEW.partial"]),
    "report": (["W"], ["W/report.html", "W/report.json"]),
    "explain": (["W", "0", "--picture", "NEW/x.jpg"], ["NEW/x.jpg"]),
}


@pytest.mark.parametrize("kind", ["as a file", "in a folder", "behind a link"])
@pytest.mark.parametrize(("command", "place"), [(name, place) for name, (_, at) in PLACES.items() for place in at])
def test_files_of_the_user_survive_every_command(made, work, tmp_path, capsys, command, place, kind):
    named = {"W": work, "SET": made[0], "NEW": tmp_path / "new"}
    first, _, rest = place.replace("NEW.partial", "NEW/../new.partial").partition("/")
    path = (named[first] / rest).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "as a file":
        path.write_text(MINE)
    else:
        folder = path if kind == "in a folder" else tmp_path / "far"
        (folder / "sub").mkdir(parents=True)
        (folder / "precious.txt").write_text(MINE)
        (folder / "sub" / "precious.txt").write_text(MINE)
        if kind == "behind a link":
            path.symlink_to(folder)
    before = tree(tmp_path)
    arguments = [
        str(named[word]) if word in named else word.replace("NEW", str(named["NEW"])) for word in PLACES[command][0]
    ]
    code, _, err = reappear(capsys, command, *arguments)
    assert code in (1, 2)
    assert "bug in reappear" not in err
    assert len(err.strip().splitlines()[-1]) < 400
    assert str(path.name) in err
    after = tree(tmp_path)
    assert {name: after.get(name) for name in before} == before


def test_other_files_in_a_workspace_stay(made, tmp_path, capsys):
    new = tmp_path / "new"
    for name in ("notes.txt", "crops.txt", "report.txt", "models/mine.txt", "embeddings/mine/precious.txt"):
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_text(MINE)
    before = tree(new)
    for command in (
        ["ingest", made[0], "--out", new],
        ["embed", new, "--extractor", "color"],
        ["correlate", new],
        ["report", new],
    ):
        assert reappear(capsys, *map(str, command), "--quiet")[0] == 0
    after = tree(new)
    assert {name: after[name] for name in before} == before


class TestPages:
    def test_own_page_is_replaced(self, tmp_path):
        page = '<!doctype html>\n<meta name="generator" content="reappear">\n'
        for number in (1, 2):
            require_own_page(tmp_path, "report")
            write_page(tmp_path, "report", {"number": number}, f"{page}{number}")
        assert (tmp_path / "report.html").read_text().endswith("2")
        assert '"number": 2' in (tmp_path / "report.json").read_text()

    def test_full_disk_keeps_page_and_numbers(self, tmp_path, monkeypatch):
        write_page(tmp_path, "report", {"number": 1}, "one")
        before = tree(tmp_path)
        write_text = Path.write_text

        def full(path: Path, text: str, **more: object) -> int:
            if "report.html" in path.name:
                write_text(path, text[:1], encoding="utf-8")
                raise OSError(28, "No space left on device", str(path))
            return write_text(path, text, encoding="utf-8")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(StorageError, match=r"report.html.*the disk is full"):
            write_page(tmp_path, "report", {"number": 2}, "two")
        assert tree(tmp_path) == before


class TestModes:
    @pytest.fixture(autouse=True)
    def usual_mask(self):
        before = os.umask(0o022)
        yield
        os.umask(before)

    def vectors(self, folder: Path) -> list[Path]:
        np.save(folder / "v.npy", np.eye(3, dtype=np.float32))
        (folder / "v.csv").write_text("label\n1\n1\n2\n")
        return [folder / "v.npy", folder / "v.csv"]

    def test_new_workspace_is_readable_by_owner_only(self, tmp_path):
        ingest(self.vectors(tmp_path), Workspace(tmp_path / "deep" / "w"), IngestSettings())
        assert (tmp_path / "deep" / "w").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o755

    def test_existing_folder_keeps_its_mode(self, tmp_path):
        (tmp_path / "w").mkdir(mode=0o755)
        ingest(self.vectors(tmp_path), Workspace(tmp_path / "w"), IngestSettings())
        assert (tmp_path / "w").stat().st_mode & 0o777 == 0o755

    def test_exports_follow_the_umask(self, work, tmp_path, capsys):
        assert reappear(capsys, "export-data", str(work), "--out", str(tmp_path / "out"))[0] == 0
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755

    def test_name_of_unfinished_work_is_refused(self, tmp_path):
        with pytest.raises(SettingsError, match=r"w\.partial"):
            Workspace(tmp_path / "w.partial").make()
        assert not (tmp_path / "w.partial").exists()


def test_unreadable_page_is_not_replaced(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(WorkspaceError, match=r"report\.html"):
        require_own_page(tmp_path, "report")
