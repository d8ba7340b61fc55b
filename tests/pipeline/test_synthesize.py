import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reappear.core import StorageError, WorkspaceError
from reappear.pipeline import synthesize as step
from reappear.pipeline.synthesize import SynthesizeSettings, synthesize
from reappear.synthetic import World

SMALL: dict[str, Any] = {
    "people": 3,
    "test_people": 2,
    "cameras": 2,
    "films": 1,
    "appearances": 2,
    "width": 192,
    "height": 144,
    "rate": 2.0,
    "workers": 1,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "world"
    synthesize(folder, SynthesizeSettings(**SMALL))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "record.json"
    }


def test_layout_of_a_synthetic_world(made: Path) -> None:
    names = list(contents(made))
    films = [name for name in names if name.startswith("films")]
    assert films == ["films/c0_00.gt.txt", "films/c0_00.mp4", "films/c1_00.gt.txt", "films/c1_00.mp4"]
    assert "world.yaml" in names
    query = sorted(path.name for path in (made / "test" / "query").iterdir())
    gallery = sorted(path.name for path in (made / "test" / "bounding_box_test").iterdir())
    keys = {tuple(name.split("s1_")[0].split("_")) for name in query}
    assert len(keys) == len(query) >= 3
    assert {person for person, _ in keys} <= {"0001", "0002"}
    assert {camera for _, camera in keys} == {"c1", "c2"}
    assert len(gallery) >= 2 * len(query)
    assert not set(query) & set(gallery)


def test_ids_are_the_same_in_all_films_and_test_people_are_not_in_films(made: Path) -> None:
    world = World.from_yaml((made / "world.yaml").read_text())
    ids = [set(np.loadtxt(path, delimiter=",")[:, 1].astype(int)) for path in sorted(made.glob("films/*.gt.txt"))]
    assert ids[0] == ids[1] == {1, 2, 3}
    assert {person.id for person in world.test_people}.isdisjoint(ids[0] | ids[1])


def test_world_yaml_renders_the_same_files(made: Path, tmp_path: Path) -> None:
    world = World.from_yaml((made / "world.yaml").read_text())
    step.render_world(world, tmp_path)
    again = contents(tmp_path)
    assert again == {name: data for name, data in contents(made).items() if name != "world.yaml"}


def test_another_seed_gives_another_ground_truth(made: Path, tmp_path: Path) -> None:
    synthesize(
        tmp_path / "other",
        SynthesizeSettings(**SMALL | {"seed": 1, "people": 1, "cameras": 1, "appearances": 1, "test_people": 0}),
    )
    assert contents(tmp_path / "other")["films/c0_00.gt.txt"] != contents(made)["films/c0_00.gt.txt"]
    assert not (tmp_path / "other" / "test").exists()


@pytest.mark.slow
def test_result_does_not_depend_on_workers(made: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "world", SynthesizeSettings(**SMALL | {"workers": 2}))
    assert contents(tmp_path / "world") == contents(made)


def test_finished_world_is_reused_with_other_workers_and_refused_with_other_settings(made: Path) -> None:
    assert synthesize(made, SynthesizeSettings(**SMALL | {"workers": 3})).already_done
    with pytest.raises(WorkspaceError, match="cast"):
        synthesize(made, SynthesizeSettings(**SMALL | {"cast": 0.3}))


class Listener:
    """Counts rendered frames."""

    def __init__(self) -> None:
        self.total, self.done, self.notes = 0, 0, list[str]()

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        self.total += total or 0

        def advance(done: int) -> None:
            self.done += done

        yield advance

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_interrupted_run_continues_with_the_next_film(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "world"
    real, calls = step.encode_film, list[str]()

    def encode_film(world: World, film: Any, video: Any) -> str:
        calls.append(film.name)
        if len(calls) == 2:
            real(world, film, video)
            raise KeyboardInterrupt
        return real(world, film, video)

    monkeypatch.setattr(step, "encode_film", encode_film)
    with pytest.raises(KeyboardInterrupt):
        synthesize(folder, SynthesizeSettings(**SMALL))
    partial = folder.with_name("world.partial")
    assert (partial / "films" / "c0_00.mp4").exists()
    assert not (partial / "films" / "c1_00.mp4").exists()
    (partial / "films" / ".c1_00.mp4.1.tmp").write_bytes(b"left by a killed process")
    listener = Listener()
    synthesize(folder, SynthesizeSettings(**SMALL), progress=listener)
    assert calls == ["c0_00", "c1_00", "c1_00"]
    assert contents(folder) == contents(made)
    assert listener.done == listener.total > 0
    assert "already there: 1 of 4 recordings" in listener.notes[0]


@pytest.mark.slow
def test_killed_run_leaves_no_process_and_is_resumed(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    script = f"""
from pathlib import Path
from reappear.pipeline.synthesize import *
if __name__ == "__main__":
    synthesize(Path({str(folder)!r}), SynthesizeSettings(**{SMALL | {"workers": 2}!r}))
"""
    (tmp_path / "run.py").write_text(script)
    run = subprocess.Popen([sys.executable, tmp_path / "run.py"], start_new_session=True)
    films = folder.with_name("world.partial") / "films"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not list(films.glob(".*.tmp")):
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    while time.monotonic() < deadline and _alive(run.pid):
        time.sleep(0.05)
    assert not _alive(run.pid)
    synthesize(folder, SynthesizeSettings(**SMALL))
    assert contents(folder) == contents(made)


def _alive(group: int) -> bool:
    """Whether any process of the group still runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


def test_full_disk_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode_film(world: World, film: Any, video: Any) -> str:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"frame")
        return ""

    monkeypatch.setattr(step, "encode_film", encode_film)
    with pytest.raises(StorageError, match="disk is full") as error:
        synthesize(tmp_path / "world", SynthesizeSettings(**SMALL))
    assert isinstance(error.value.__cause__, OSError)
    assert error.value.__cause__.errno == errno.ENOSPC
