import copy

import pytest
import torch
from torch import Tensor

from reappear.methods.network import Network
from reappear.models import DistillationHead, create_model
from reappear.models.preprocessing import Preprocessing

HALF = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def _network(name: str = "cnn6", statistics: str = "global", **arguments: object) -> Network:
    torch.manual_seed(0)
    backbone = create_model(name, **arguments)
    head = DistillationHead(backbone.num_features, hidden=8, bottleneck=6, prototypes=12, batch_norm=True)
    return Network(backbone, head, preprocessing=HALF, statistics=statistics)


def _views(sizes: list[tuple[int, int]]) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, 2, 3, *size), generator=random, dtype=torch.uint8) for size in sizes]


def _statistics(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.backbone.named_buffers() if "running" in name}


def _train(network: Network, views: list[Tensor]) -> Tensor:
    features, vectors = network(views)
    (features.square().sum() + vectors[..., 0].sum()).backward()
    return features


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 2, 1, 3]])
def test_local_views_leave_the_running_statistics_of_global_views(order: list[int]) -> None:
    with_local, without = _network(width=4), _network(width=4)
    views = _views([(16, 8), (16, 8), (8, 8), (8, 4)])
    _train(with_local, [views[i] for i in order])
    _train(without, views[:2])
    expected = _statistics(without)
    assert all(torch.equal(value, expected[name]) for name, value in _statistics(with_local).items())
    assert not torch.equal(expected["features.1.running_mean"], torch.zeros(4))


def test_statistics_of_all_views_are_those_of_unchanged_batch_norm() -> None:
    network = _network(statistics="all", width=4)
    plain = copy.deepcopy(network.backbone)
    views = _views([(16, 8), (16, 8), (8, 8)])
    network(views)
    for group in (views[:2], views[2:]):
        plain(network._normalise(torch.cat([view.flatten(0, 1) for view in group])))
    for name, value in plain.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[name], value), name


def test_choice_of_statistics_changes_no_output_and_no_gradient() -> None:
    one, other = _network(statistics="global", width=4), _network(statistics="all", width=4)
    views = _views([(16, 8), (16, 8), (8, 8)])
    for _ in range(2):
        assert torch.equal(_train(one, views), _train(other, views))
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad), name


@pytest.mark.parametrize("statistics", ["global", "all"])
def test_gradient_checkpointing_gathers_statistics_once(statistics: str) -> None:
    plain, again = (_network("resnet18_ibn", statistics=statistics) for _ in range(2))
    again.backbone.set_grad_checkpointing(True)
    views = _views([(32, 32), (32, 32), (32, 16)])
    for network in (plain, again):
        _train(network, views)
    expected = _statistics(plain)
    for name, value in _statistics(again).items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_network_in_evaluation_mode_gathers_nothing() -> None:
    network = _network(width=4)
    views = _views([(16, 8), (8, 8)])
    network(views)
    before = _statistics(network)
    network.eval()(views)
    assert all(torch.equal(value, before[name]) for name, value in _statistics(network).items())


def test_pooled_features_and_maps_are_of_the_same_images() -> None:
    network = _network("stripes4", width=8).eval()
    views = torch.randint(0, 256, (2, 3, 3, 64, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = views.flatten(0, 1)
    with torch.no_grad():
        pooled, maps = network.pooled(images), network.maps(images)
        features, _ = network([views])
    torch.testing.assert_close(features[0].flatten(0, 1), pooled)
    assert len(maps) == len(images)
    assert maps.ndim == 4
    assert not torch.equal(maps[0], maps[1])


def test_maps_of_tokens_have_their_place_in_the_image() -> None:
    network = _network("vit_tiny", depth=1).eval()
    images = torch.full((2, 3, 256, 128), 128, dtype=torch.uint8)
    images[1, :, :64] = 0  # only the upper quarter differs
    with torch.no_grad():
        maps = network.maps(images)
    changed = (maps[0] - maps[1]).abs().sum(0)
    assert maps.shape[2:] == (16, 8)
    assert changed[:4].mean() > changed[4:].mean()


def test_embedder_sees_what_the_network_sees() -> None:
    network = _network("cnn6", width=4).eval()
    images = torch.randint(0, 256, (3, 3, 256, 128), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        expected = network.pooled(images)
    vectors = network.embedder()([image.permute(1, 2, 0).numpy() for image in images])
    torch.testing.assert_close(torch.from_numpy(vectors), expected, rtol=1e-4, atol=1e-5)
