import pytest
import torch
from torch.nn import functional as F

from reappear.core import InputError, SettingsError
from reappear.losses import IdentityMemory


def _vectors(n: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)


def _memory(**changes: float) -> IdentityMemory:
    memory = IdentityMemory(4, 6, **changes)
    memory.fill(_vectors(12, 1), torch.arange(12) % 4)
    return memory


def test_centroids_begin_as_the_mean_of_their_identity() -> None:
    memory, vectors = _memory(), _vectors(12, 1)
    for person in range(4):
        torch.testing.assert_close(memory.centroids[person], F.normalize(vectors[person::4].mean(0), dim=0))


def test_loss_is_the_literal_softmax_with_its_gradient() -> None:
    memory, identity = _memory(temperature=0.2), torch.tensor([3, 0, 0])
    vectors = _vectors(3).requires_grad_()
    terms = []
    for vector, person in zip(vectors, identity, strict=True):
        shares = [torch.exp(vector @ centroid / 0.2) for centroid in memory.centroids]
        terms.append(-torch.log(shares[person] / sum(shares)))
    expected = sum(terms) / 3
    value = memory(vectors, identity)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, vectors), torch.autograd.grad(expected, vectors))
    assert not memory.centroids.requires_grad


def test_loss_among_some_identities_is_that_of_a_smaller_memory() -> None:
    memory, vectors, kept = _memory(), _vectors(3), torch.tensor([0, 2, 3])
    among = torch.zeros(3, 4, dtype=torch.bool)
    among[:, kept] = True
    smaller = IdentityMemory(3, 6)
    smaller.centroids.copy_(memory.centroids[kept])
    torch.testing.assert_close(
        memory(vectors, torch.tensor([3, 0, 2]), among), smaller(vectors, torch.tensor([2, 0, 1]))
    )


def test_centroids_follow_one_vector_after_the_other() -> None:
    memory, vectors, identity = _memory(momentum=0.3), _vectors(7, 2), torch.tensor([2, 0, 2, 2, 3, 0, 2])
    expected = memory.centroids.clone()
    for vector, person in zip(vectors, identity, strict=True):
        expected[person] = F.normalize(0.3 * expected[person] + 0.7 * vector, dim=0)
    before = memory.centroids[1].clone()
    memory.update(vectors, identity)
    torch.testing.assert_close(memory.centroids, expected)
    assert torch.equal(memory.centroids[1], before)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: IdentityMemory(1, 4), InputError),
        (lambda: IdentityMemory(2, 4, temperature=0.0), SettingsError),
        (lambda: IdentityMemory(2, 4, momentum=1.5), SettingsError),
    ],
)
def test_refuses_what_makes_no_sense(make: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_hardest_vector_of_each_identity_moves_its_centroid_once() -> None:
    memory = _memory(momentum=0.2)
    before, vectors = memory.centroids.clone(), _vectors(9, 5)
    identity = torch.tensor([2, 0, 2, 2, 0, 1, 0, 2, 1])
    memory.update_hardest(vectors, identity)
    expected = before.clone()
    for person in (0, 1, 2):
        own = [i for i in range(9) if identity[i] == person]
        hardest = min(own, key=lambda i: float(vectors[i] @ before[person]))
        expected[person] = F.normalize(0.2 * before[person] + 0.8 * vectors[hardest], dim=0)
    torch.testing.assert_close(memory.centroids, expected)
