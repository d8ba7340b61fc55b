from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from reappear.core import InputError
from reappear.train.checkpoint import Checkpoints


class Notes:
    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def task(self, title: str, total: int | None, unit: str):
        yield lambda done: None

    def note(self, text: str) -> None:
        self.said.append(text)


def _state(value: float) -> dict[str, object]:
    return {"method": {"w": torch.full((3,), value)}, "count": 2}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt"))


def test_the_newest_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "c", keep=2)
    assert store.load(Notes()) is None
    for step in (10, 20, 30):
        store.save(step, _state(step))
    assert [int(path.name.split("-")[1]) for path in _files(tmp_path / "c")] == [20, 30]
    step, state = store.load(Notes())
    assert step == 30
    assert torch.equal(state["method"]["w"], torch.full((3,), 30.0))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[::-1]])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage) -> None:
    store = Checkpoints(tmp_path)
    store.save(10, _state(1))
    store.save(20, _state(2))
    newest = _files(tmp_path)[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    notes = Notes()
    step, state = store.load(notes)
    assert step == 10
    assert float(state["method"]["w"][0]) == 1.0
    assert notes.said == [f"{newest} is damaged; falling back to the one before"]


def test_saving_again_after_a_fallback_replaces_the_damaged_one(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(10, _state(1))
    store.save(20, _state(2))
    _files(tmp_path)[-1].write_bytes(b"cut")
    store.load(Notes())
    store.save(20, _state(2))
    assert store.load(Notes())[0] == 20


def test_only_damaged_checkpoints_raise_input_error(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints")
    store.save(10, _state(1))
    _files(tmp_path / "checkpoints")[0].write_bytes(b"x")
    with pytest.raises(InputError, match=r"no checkpoint in .* is whole; remove"):
        store.load(Notes())


def test_a_save_cut_off_leaves_no_file_under_its_name(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(10, _state(1))

    def unsaveable() -> None: ...

    with pytest.raises((AttributeError, TypeError, Exception)):
        store.save(20, {"method": unsaveable})
    assert store.load(Notes())[0] == 10
