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
