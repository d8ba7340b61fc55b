from hypothesis import given
from hypothesis import strategies as st

from reappear.core import generator

paths = st.lists(st.one_of(st.integers(0, 2**32 - 1), st.text(max_size=5)), max_size=3)


@given(st.integers(0, 2**31), paths)
def test_same_seed_and_path_give_the_same_numbers(seed, path):
    assert generator(seed, *path).random(3).tolist() == generator(seed, *path).random(3).tolist()


def test_other_seeds_and_paths_give_other_numbers():
    drawn = [generator(seed, *path).random() for seed in (0, 1) for path in ((), ("a",), ("b",), ("a", 1), ("a", 2))]
    assert len(set(drawn)) == len(drawn)
