from dataclasses import dataclass

import numpy as np
import pytest

from reappear.core import LOCAL, Engine
from reappear.pipeline.engines import Kept, kept


@dataclass(frozen=True)
class Pair:
    left: np.ndarray
    right: np.ndarray


def _pair(shared: list[int], item: int) -> Pair:
    shared.append(item)
    return Pair(np.arange(item), np.full((item, 2), 0.5, np.float32))


def _number(shared: list[int], item: int) -> int:
    shared.append(item)
    return item * item


def _both(shared: list[int], item: int) -> tuple[int, np.ndarray]:
    shared.append(item)
    return item, np.ones(item)


@dataclass(frozen=True)
class Times:
    factor: int

    def __call__(self, shared: list[int], item: int) -> int:
        shared.append(item)
        return item * self.factor


def plain(result):
    return [np.asarray(value).tolist() for value in kept._values(result)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(kept, "_EVERY", 0.0)


@pytest.mark.parametrize("function", [_pair, _number, _both, Times(3)])
def test_finished_items_are_not_repeated(tmp_path, function):
    calls = []
    work = Kept(LOCAL, tmp_path, "work").map(function, calls, range(6))
    for _ in range(4):  # the fourth is under way when the process dies: it may or may not be kept
        next(work)
    work.close()
    assert calls == [0, 1, 2, 3]
    calls.clear()
    again = list(Kept(LOCAL, tmp_path, "work").map(function, calls, range(6)))
    assert calls == [3, 4, 5]
    assert [plain(result) for result in again] == [plain(function([], i)) for i in range(6)]
    assert {type(result) for result in again} == {type(function([], 1))}
    calls.clear()
    assert len(list(Kept(LOCAL, tmp_path, "work").map(function, calls, range(6)))) == 6
    assert calls == []


@pytest.mark.parametrize(
    ("function", "items"), [(_number, range(1, 5)), (_both, range(4)), (Times(2), range(4)), (_number, range(5))]
)
def test_other_work_is_computed(tmp_path, function, items):
    list(Kept(LOCAL, tmp_path, "work").map(_number, [], range(4)))
    list(Kept(LOCAL, tmp_path, "work").map(Times(3), [], range(4)))
    calls = []
    list(Kept(LOCAL, tmp_path, "work").map(function, calls, items))
    assert calls == list(items)


def test_calls_are_identified_by_their_order(tmp_path):
    engine = Kept(LOCAL, tmp_path, "work")
    assert isinstance(engine, Engine)
    first, second = (list(engine.map(_number, [], range(n))) for n in (3, 4))
    calls = []
    engine = Kept(LOCAL, tmp_path, "work")
    assert [list(engine.map(_number, calls, range(n))) for n in (3, 4)] == [first, second]
    assert calls == []


def test_short_work_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "_EVERY", 60.0)
    list(Kept(LOCAL, tmp_path, "work").map(_number, [], range(100)))
    assert list(tmp_path.iterdir()) == []
