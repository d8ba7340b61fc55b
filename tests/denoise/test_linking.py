"""Links are those of a double loop, to the last bit the same however they are found."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from reappear.core import LOCAL, Local, SettingsError
from reappear.denoise.groups import to_unit
from reappear.denoise.joining import components, shortest_forest
from reappear.denoise.linking import count_pairs, find_links
from reappear.denoise.products import BLAS, Blas, Products

from .worlds import sigmas

few = settings(max_examples=60, deadline=None)


def unit(x):
    norms = np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros(x.shape), where=norms > 0).astype(np.float32)


def random_people(seed, count=60, width=5, spread=0.3):
    """A few people many times over, some rows twice, some zero."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(max(1, count // 6), width))
    x = people[rng.integers(0, len(people), count)] + spread * rng.normal(size=(count, width))
    x[rng.integers(0, count, count // 10)] = x[0]
    x[rng.integers(0, count, count // 20)] = 0
    return unit(x)


def nearly_alike(seed, count=60, width=4):
    """All distances to the first row lie at one of a few values."""
    angle = np.deg2rad(np.random.default_rng(seed).choice([0, 10, 20, 30, 60, 90], count))
    x = np.zeros((count, width))
    x[:, 0], x[:, 1] = np.cos(angle), np.sin(angle)
    return unit(x)


centers = st.one_of(
    st.builds(
        random_people, st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 9), st.sampled_from([0.1, 0.4, 1.0])
    ),
    st.builds(nearly_alike, st.integers(0, 10_000)),
)
edges = [float(1 - np.cos(np.deg2rad(degrees))) for degrees in (10, 20, 30, 60)]
thresholds = st.one_of(sigmas, st.sampled_from(edges))
reaches = st.one_of(st.none(), st.integers(0, 12))


def literal_links(x, sigma, reach):
    """One pair after the other."""
    out = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            distance = 1 - sum(float(a) * float(b) for a, b in zip(x[i], x[j], strict=True))
            if (reach is None or j - i <= reach) and distance <= sigma + 1e-6:
                out.append((i, j, max(0, distance)))
    return out


def same_bits(left, right):
    assert left.first.tolist() == right.first.tolist()
    assert left.second.tolist() == right.second.tolist()
    assert left.distance.tobytes() == right.distance.tobytes()


def tiled(block, height, width):
    products = Blas()
    products.block, products.tile = block, (height, width)
    return products


class Rough(Blas):
    """Rounds rows as half the bits would, and gets each product wrong by half of what it may."""

    block, tile = 32, (16, 16)

    def error(self, width):
        return 4 * 2.0**-11 + super().error(width)

    def load(self, rows):
        return rows.astype(np.float16).astype(np.float32)

    def at_least(self, rows, columns, limit):
        inner = rows @ columns.T
        inner += 2 * 2.0**-11 * np.where(np.arange(inner.size).reshape(inner.shape) % 2, 1, -1)
        found = np.flatnonzero(inner >= np.float32(limit))
        return found, inner.ravel()[found].astype(np.float32)


@few
@given(centers, thresholds, reaches)
def test_links_equal_a_double_loop(x, sigma, reach):
    links = find_links(x, sigma, reach=reach)
    expected = literal_links(x, sigma, reach)
    assert list(zip(links.first.tolist(), links.second.tolist(), strict=True)) == [pair[:2] for pair in expected]
    assert links.distance.tolist() == pytest.approx([pair[2] for pair in expected], abs=1e-7)
    assert count_pairs(x, sigma, reach=reach) == len(expected)


@few
@given(centers, thresholds, reaches, st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_tiles_change_no_bit(x, sigma, reach, block, height, width):
    products = tiled(block, height, width)
    same_bits(find_links(x, sigma, reach=reach, products=products), find_links(x, sigma, reach=reach))
    assert count_pairs(x, sigma, reach=reach, products=products) == count_pairs(x, sigma, reach=reach)


@few
@given(centers, thresholds, reaches)
def test_rough_products_change_no_bit(x, sigma, reach):
    assert isinstance(Rough(), Products)
    same_bits(find_links(x, sigma, reach=reach, products=Rough()), find_links(x, sigma, reach=reach))
    assert count_pairs(x, sigma, reach=reach, products=Rough()) == count_pairs(x, sigma, reach=reach)


@few
@given(centers, thresholds, reaches)
def test_thinned_links_give_the_same_components(x, sigma, reach):
    whole = find_links(x, sigma, reach=reach)
    thinned = find_links(x, sigma, reach=reach, engine=Local(memory_bytes=128 * 3), products=tiled(16, 4, 8))
    same_bits(thinned, shortest_forest(len(x), whole).in_order() if len(whole) > 3 else whole)
    assert components(len(x), thinned).tolist() == components(len(x), whole).tolist()


@few
@given(centers, thresholds, reaches, st.integers(1, 400), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_thinned_links_do_not_depend_on_tiles(x, sigma, reach, most, block, height, width):
    engine = Local(memory_bytes=128 * most)
    small = find_links(x, sigma, reach=reach, engine=engine, products=tiled(block, height, width))
    large = find_links(x, sigma, reach=reach, engine=engine, products=tiled(1000, 1000, 1000))
    same_bits(small, large)


def test_links_that_cannot_be_thinned_must_fit_in_memory():
    x = np.ones((40, 4), np.float32) / 2
    with pytest.raises(
        SettingsError,
        match=r"sigma_drm: more than 100 pairs within 0\.1 .*",
    ):
        find_links(x, 0.1, thin=False, engine=Local(memory_bytes=128 * 100))
    assert len(find_links(x, 0.1, thin=False, engine=Local(memory_bytes=128 * 780))) == 780


@pytest.mark.parametrize("reach", [None, 700])
def test_threads_and_widths_change_no_bit(reach):
    x = random_people(0, 3000, 96, 0.5)
    inside, around = tiled(1024, 512, 640), tiled(1024, 256, 640)
    inside.threads = False
    with threadpool_limits(1):
        one = find_links(x, 0.3, reach=reach)
    with threadpool_limits(2):
        same_bits(one, find_links(x, 0.3, reach=reach, products=inside))
        same_bits(one, find_links(x, 0.3, reach=reach, products=around))
    assert len(one) > 10_000 or reach


class Backwards:
    """Sends each piece of work through a pickle and does the last first, as another machine might."""

    def map(self, function, shared, items):
        done = [pickle.loads(pickle.dumps(function))(shared, pickle.loads(pickle.dumps(i))) for i in list(items)[::-1]]
        yield from done[::-1]

    memory_bytes, zeros = LOCAL.memory_bytes, LOCAL.zeros


def test_engine_changes_no_bit():
    x = random_people(1, 500)
    for reach in (None, 40):
        mine = find_links(x, 0.2, reach=reach)
        same_bits(find_links(x, 0.2, reach=reach, engine=Backwards(), products=tiled(64, 32, 32)), mine)
        assert count_pairs(x, 0.2, reach=reach, engine=Backwards(), products=tiled(64, 32, 32)) == len(mine)


def test_float16_memory_map_is_not_copied(tmp_path):
    count, width = 20_000, 64
    half = random_people(2, count, width).astype(np.float16)
    np.save(tmp_path / "centers.npy", half)
    mapped = np.load(tmp_path / "centers.npy", mmap_mode="r")
    tracemalloc.start()
    links = find_links(mapped, 0.1, reach=50, products=tiled(512, 256, 1024))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * width * count / 1.5
    same_bits(links, find_links(to_unit(half.astype(np.float32)), 0.1, reach=50))


def test_empty_input_has_no_links():
    for count in (0, 1):
        assert len(find_links(np.ones((count, 3), np.float32), 2.0)) == 0
        assert count_pairs(np.ones((count, 3), np.float32), 2.0) == 0
    assert isinstance(BLAS, Products)
