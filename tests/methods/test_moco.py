import pytest
import torch

from reappear.core import SettingsError
from reappear.methods.moco.settings import MocoSettings
from reappear.methods.moco.task import Moco
from reappear.methods.network import Network
from reappear.train.batch import ViewBatch

from .setups import make_setup


def _moco(seed: int = 0, **changes: object) -> Moco:
    settings = MocoSettings(**{"head_hidden": 8, "head_width": 6, "queue": 8, **changes})
    return Moco(make_setup(settings, labels="instance", seed=seed))


def _network() -> Network:
    return _moco().student


def _batch(images: int = 4, seed: int = 0) -> ViewBatch:
    random = torch.Generator().manual_seed(seed)
    views = [torch.randint(0, 256, (images, 1, 3, 16, 8), generator=random, dtype=torch.uint8) for _ in range(2)]
    return ViewBatch(views, torch.arange(images))


def test_the_loss_is_the_literal_contrast() -> None:
    method, batch = _moco(queue=7, temperature=0.2), _batch()
    value = method.training_step(batch, 0).loss
    query, key = _network()([batch.views[0]])[1][0, :, 0], _network()([batch.views[1]])[1][0, :, 0]
    terms = []
    for q, k in zip(query, key, strict=True):
        right = torch.exp(q @ k / 0.2)
        wrong = sum(torch.exp(q @ other / 0.2) for other in method.queue)
        terms.append(-torch.log(right / (right + wrong)))
    torch.testing.assert_close(value, torch.stack(terms).mean())


def test_keys_take_the_place_of_the_oldest_and_go_round() -> None:
    method = _moco(queue=6, momentum=1.0)
    first = method.queue.clone()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(6))
    keys = []
    for step in range(2):
        batch = _batch(seed=step)
        keys.append(_network()([batch.views[1]])[1][0, :, 0].detach())
        method.training_step(batch, step)
        assert torch.equal(method.queue, first) or step
        method.after_step(step)
    expected = torch.cat([keys[1][2:], keys[0][2:], keys[1][:2]])
    torch.testing.assert_close(method.queue, expected, atol=1e-5, rtol=1e-4)


def test_no_gradient_flows_into_keys_and_queue() -> None:
    method = _moco(queue=8)
    method.training_step(_batch(), 0).loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.student.parameters())
    assert not method.queue.requires_grad


def test_the_key_network_follows_slowly() -> None:
    method = _moco(queue=8, momentum=0.9)
    before = method.teacher.head.mlp[0].weight.clone()
    with torch.no_grad():
        method.student.head.mlp[0].weight.add_(1.0)
    method.training_step(_batch(), 0)
    method.after_step(0)
    torch.testing.assert_close(method.teacher.head.mlp[0].weight, before + 0.1)


def test_a_skipped_step_is_not_remembered() -> None:
    method = _moco(queue=8)
    queue = method.queue.clone()
    method.training_step(_batch(), 0)
    method.on_step_skipped()
    method.after_step(0)
    assert torch.equal(method.queue, queue)


def test_state_goes_round() -> None:
    method, other = _moco(queue=8), _moco(1)
    method.training_step(_batch(), 0)
    method.after_step(0)
    other.load_state_dict(method.state_dict())
    torch.testing.assert_close(
        other.training_step(_batch(seed=1), 1).loss, method.training_step(_batch(seed=1), 1).loss
    )
    method.after_step(1)
    other.after_step(1)
    torch.testing.assert_close(other.queue, method.queue)


def test_some_steps_find_the_other_view() -> None:
    method = _moco(queue=32, momentum=0.9)
    optimizer = torch.optim.Adam(method.student.parameters(), lr=3e-3)
    shades = torch.rand(8, 1, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 200

    def batch(step: int) -> ViewBatch:
        random = torch.Generator().manual_seed(step)
        views = [(shades + 50 * torch.rand(8, 1, 3, 16, 8, generator=random)).to(torch.uint8) for _ in range(2)]
        return ViewBatch(views, torch.arange(8))

    losses = []
    for step in range(60):
        result = method.training_step(batch(step), step)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        method.after_step(step)
        losses.append(result.loss.item())
    watched = result.metrics()
    assert sum(losses[-10:]) < sum(losses[5:15])
    assert watched["positive_similarity"] > 0.9
    assert watched["feature_spread"] > 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queue": 0}, "queue: must be"),
        ({"temperature": 0.0}, "temperature: must be"),
        ({"momentum": 1.5}, "momentum: must be"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        _moco(**changes)
