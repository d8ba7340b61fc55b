import dataclasses

import numpy as np
import pytest

from reappear.core import ImageTable, InputError


def table(split):
    count = np.arange(len(split))
    return ImageTable(count.astype(str), count, count, count, np.array(split), {"x": "why"})


def test_rows_of_one_split():
    some = table(["query", "train", "query"]).where("query")
    assert some.identity.tolist() == [0, 2]
    assert set(some.split) == {"query"}


def test_unknown_splits_are_refused():
    with pytest.raises(InputError, match=r"must be one of train, query, gallery, got \['test'\]"):
        table(["train", "test"])


def test_frames_and_times_are_unknown_if_not_given():
    some = table(["train", "train"])
    assert some.frame.tolist() == [-1, -1]
    assert np.isnan(some.time).all()


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True])])
def test_selected_rows_keep_every_column(rows):
    columns = {name: np.arange(3) for name in ("identity", "camera", "sequence", "frame")}
    split = np.array(["train", "query", "gallery"])
    some = ImageTable(
        np.array(["a", "b", "c"]), split=split, time=np.arange(3.0), names=("x", "y", "z"), cameras=("k",), **columns
    )
    for field in dataclasses.fields(some):
        whole, part = getattr(some, field.name), getattr(some.select(rows), field.name)
        if isinstance(whole, np.ndarray):
            assert part.tolist() == whole[rows].tolist()
        else:
            assert part == ({} if field.name == "skipped" else whole)
