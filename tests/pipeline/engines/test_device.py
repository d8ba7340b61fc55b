"""A faster machine proposes links; they stay those of the processor."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reappear.core import SettingsError
from reappear.denoise import BLAS, Products
from reappear.denoise.groups import to_unit
from reappear.denoise.linking import count_pairs, find_links
from reappear.denoise.neighbors import NeighborProducts, nearest_neighbors
from reappear.pipeline.engines import LocalSettings, RaySettings, choose_products
from reappear.pipeline.engines.torch_products import TorchProducts, numpy_sum
from tests.denoise.test_linking import random_people, same_bits

gpu = pytest.mark.gpu
here = torch.cuda.is_available()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[gpu, pytest.mark.skipif(not here, reason="no GPU")])]
)
@pytest.mark.parametrize("reach", [None, 150])
def test_half_precision_gives_the_same_links(device, dtype, reach):
    x = random_people(0, 1200, 48, 0.4)
    products = TorchProducts(device, dtype)
    products.block, products.tile = 500, (200, 300)
    assert isinstance(products, Products)
    distances = np.sort(find_links(x, 2.0).distance)
    for sigma in (0.18, float(distances[len(distances) // 3])):  # the latter lies among many
        same_bits(find_links(x, sigma, reach=reach, products=products), find_links(x, sigma, reach=reach))
        assert count_pairs(x, sigma, reach=reach, products=products) == count_pairs(x, sigma, reach=reach)


def test_a_device_with_much_memory_holds_more_rows(monkeypatch):
    for gigabytes, block in ((8, 65_536), (80, 262_144)):
        known = SimpleNamespace(total_memory=gigabytes << 30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, known=known: known)
        assert TorchProducts("cuda").block == block
        assert TorchProducts("cpu").block == 65_536


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [2, 48, 768])
def test_products_are_off_by_no_more_than_their_bound(dtype, width):
    """Rows whose rounding errors all add up among them: equal values, just above half a unit in the last place."""
    rng = np.random.default_rng(0)
    unit = to_unit(np.abs(rng.normal(size=(300, width))).astype(np.float32))
    up = np.float32(1.0 + 2.0**-11 + 2.0**-20) * np.exp2(rng.integers(-14, 0, (100, width))).astype(np.float32)
    rows = np.concatenate([unit, to_unit(np.full((1, width), 1, np.float32)), to_unit(up), 1e-6 * unit[:50]])
    products = TorchProducts("cpu", dtype)
    found, inner = products.at_least(products.load(rows), products.load(rows), -1.0)
    exact = (rows.astype(float) @ rows.astype(float).T).ravel()
    assert len(found) == len(exact)
    assert np.abs(inner - exact).max() <= products.error(width)


@gpu
@pytest.mark.skipif(not here, reason="no GPU")
def test_gpu_gives_the_links_and_neighbors_of_the_processor():
    x = random_people(1, 40_000, 256, 0.6)
    products = choose_products("auto", LocalSettings())
    assert products is not BLAS
    same_bits(find_links(x, 0.3, products=products), find_links(x, 0.3))
    for reach in (None, 500):
        there, own = (nearest_neighbors(x, 62, reach=reach, products=some) for some in (products, BLAS))
        assert there.index.tobytes() == own.index.tobytes()
        assert there.cosine.tobytes() == own.cosine.tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reach", [None, 150, 7])
def test_half_precision_gives_the_same_neighbors(dtype, reach):
    """Many tiles, people seen often, and rows that are equal or zero."""
    x = random_people(0, 1200, 48, 0.4)
    x[::97] = x[5]
    x[::101] = 0
    products = TorchProducts("cpu", dtype)
    products.block, products.tile = 500, (200, 300)
    assert isinstance(products, NeighborProducts)
    expected, found = (nearest_neighbors(x, 30, reach=reach, products=some) for some in (BLAS, products))
    assert found.index.tobytes() == expected.index.tobytes()
    assert found.cosine.tobytes() == expected.cosine.tobytes()


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[gpu, pytest.mark.skipif(not here, reason="no GPU")])]
)
@pytest.mark.parametrize(
    "width", [*range(1, 20), 127, 128, 129, 136, 200, 256, 257, 500, 512, 768, 1000, 2048, 4099, 20_000]
)
def test_sums_have_the_bits_of_numpy(device, width):
    terms = np.random.default_rng(width).normal(size=(50, width)) * np.exp2(np.arange(50) % 7)[:, None]
    assert numpy_sum(torch.tensor(terms, device=device)).cpu().numpy().tobytes() == terms.sum(axis=1).tobytes()


def test_device_is_chosen_by_availability(monkeypatch):
    assert choose_products("cpu", LocalSettings()) is BLAS
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_products("auto", LocalSettings()) is BLAS
    with pytest.raises(SettingsError, match="device: cuda is not available here"):
        choose_products("cuda", LocalSettings())
    assert choose_products("auto", RaySettings()) is BLAS
    with pytest.raises(SettingsError, match="device: cuda is for this machine"):
        choose_products("cuda", RaySettings())


def test_without_a_driver_torch_is_not_even_imported(monkeypatch):
    from reappear.pipeline.engines import choose

    monkeypatch.setattr(choose, "_has_driver", lambda: False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert choose_products("auto", LocalSettings()) is BLAS
