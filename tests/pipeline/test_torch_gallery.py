from functools import partial

import numpy as np
import pytest
import torch

from reappear.core import InputError
from reappear.metrics import RetrievalTask, rank_task, top, verify
from reappear.pipeline.torch_gallery import TorchGallery

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[
        pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("protocol", ["market", "cross-camera", "no-camera", "video", "cuhk03-single-gallery-shot"])
@pytest.mark.parametrize("features", ["apart", "coarse", "close"])
def test_torch_gallery_equals_numpy(device, protocol, features):
    """Ties, junk, distractors, people without a match: whatever numpy counts."""
    rng = np.random.default_rng(5)
    draw = {
        "apart": lambda n: rng.normal(size=(n, 4)),
        "coarse": lambda n: rng.integers(-1, 2, (n, 4)) + 0.5,
        "close": lambda n: 1 + 1e-3 * rng.integers(-2, 3, (n, 4)),
    }[features]
    task = RetrievalTask.of(
        draw(40),
        draw(200),
        query_ids=rng.integers(-1, 30, 40),
        gallery_ids=rng.integers(-1, 25, 200),
        query_cameras=rng.integers(0, 3, 40),
        gallery_cameras=rng.integers(0, 3, 200),
        protocol=protocol,
    )
    backend = partial(TorchGallery, device=device)
    here, there = rank_task(task), rank_task(task, backend=backend, memory_mb=1)
    assert there.cmc.tolist() == here.cmc.tolist()
    assert np.array_equal(there.average_precision, here.average_precision, equal_nan=True)
    assert np.array_equal(there.inverse_negative_penalty, here.inverse_negative_penalty, equal_nan=True)
    assert there.reasons == here.reasons
    here_lists, there_lists = top(task, length=210), top(task, length=210, backend=backend)
    np.testing.assert_allclose(there_lists.distance, here_lists.distance, atol=1e-6)
    if features == "apart":
        assert np.array_equal(there_lists.index, here_lists.index)
    here_pairs, there_pairs = verify(task), verify(task, backend=backend)
    assert there_pairs.matches.sum() == here_pairs.matches.sum()
    assert there_pairs.area == pytest.approx(here_pairs.area, abs=1e-3)


def test_queries_without_match_are_counted_on_torch():
    task = RetrievalTask.of(np.eye(2), np.eye(2) + 1, query_ids=np.array([1, 2]), gallery_ids=np.array([3, 4]))
    with pytest.raises(InputError, match="no query has a match"):
        rank_task(task, backend=partial(TorchGallery, device="cpu"))
