from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import distinct_names

PATH = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda parts: Path("/home", *parts))


@given(st.lists(PATH, max_size=8, unique=True))
@settings(max_examples=100, deadline=None)
def test_distinct_names_differ_and_are_path_suffixes(paths):
    names = distinct_names(paths)
    assert len(set(names)) == len(paths)
    for path, name in zip(paths, names, strict=True):
        assert str(path).endswith(f"/{name}")


def test_equal_names_get_their_parent_folders():
    paths = [Path("/h/anna/c0/x/film"), Path("/h/anna/c1/x/film"), Path("/h/anna/other")]
    assert distinct_names(paths) == ["c0/x/film", "c1/x/film", "other"]
    assert distinct_names([Path("film"), Path("film")]) == ["film", "film"]  # the caller refuses what is given twice
