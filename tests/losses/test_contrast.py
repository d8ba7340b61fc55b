import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from reappear.core import InputError, SettingsError
from reappear.losses import IdentityContrastLoss, contrast


def literal(
    anchors: torch.Tensor, identity: torch.Tensor, everyone: torch.Tensor, labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    """SupCon, Eq. 2, pair by pair."""
    terms = []
    for i in range(len(anchors)):
        others = [a for a in range(len(everyone)) if a != i]
        positives = [a for a in others if labels[a] == identity[i]]
        if not positives:
            continue
        whole = sum(torch.exp(anchors[i] @ everyone[a] / temperature) for a in others)
        logs = [torch.log(torch.exp(anchors[i] @ everyone[p] / temperature) / whole) for p in positives]
        terms.append(-sum(logs) / len(positives))
    return sum(terms) / len(terms)


def _vectors(n: int, seed: int = 0, d: int = 5) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 9), st.integers(0, 5), st.sampled_from([0.05, 0.1, 1.0]))
def test_equals_the_literal_sum_with_its_gradients(seed: int, n: int, m: int, temperature: float) -> None:
    random = torch.Generator().manual_seed(seed)
    identity = torch.randint(0, 3, (n,), generator=random)
    identity[1] = identity[0]
    other_identity = torch.randint(-1, 3, (m,), generator=random)
    anchors, others = _vectors(n, seed).requires_grad_(), _vectors(m, seed + 1).requires_grad_()
    loss = IdentityContrastLoss(temperature=temperature)
    value = loss(anchors, identity, others=others, other_identity=other_identity)
    expected = literal(
        anchors, identity, torch.cat([anchors, others]), torch.cat([identity, other_identity]), temperature
    )
    torch.testing.assert_close(value, expected)
    for mine, theirs in zip(
        torch.autograd.grad(value, [anchors, others]), torch.autograd.grad(expected, [anchors, others]), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = torch.arange(40) // 4
    anchors = _vectors(40).requires_grad_()
    whole = IdentityContrastLoss()(anchors, identity)
    gradient = torch.autograd.grad(whole, anchors)[0]
    monkeypatch.setitem(contrast._AT_ONCE, "cpu", 130)
    parts = IdentityContrastLoss()(anchors, identity)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, anchors)[0], gradient)


def test_order_does_not_matter_and_labels_are_only_names() -> None:
    identity, anchors = torch.arange(12) // 3, _vectors(12)
    value = IdentityContrastLoss()(anchors, identity)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(IdentityContrastLoss()(anchors[order], 7 * identity[order] + 3), value)


def test_alone_two_views_are_the_only_positives() -> None:
    """With one positive each it is the InfoNCE of two views (SimCLR)."""
    vectors = _vectors(8)
    scores = (vectors @ vectors.T / 0.1).fill_diagonal_(-torch.inf)
    target = torch.arange(8) ^ 1
    torch.testing.assert_close(IdentityContrastLoss()(vectors, torch.arange(8) // 2), F.cross_entropy(scores, target))


def test_moving_together_lowers_the_loss() -> None:
    identity, vectors = torch.arange(12) // 3, _vectors(12)
    means = torch.stack([vectors[identity == person].mean(0) for person in range(4)])
    losses = [
        IdentityContrastLoss()(F.normalize((1 - share) * vectors + share * means[identity], dim=-1), identity).item()
        for share in (0.0, 0.5, 1.0)
    ]
    assert all(a > b for a, b in itertools.pairwise(losses))


def test_half_precision_is_compared_in_float32() -> None:
    vectors = _vectors(8).to(torch.bfloat16)
    value = IdentityContrastLoss()(vectors, torch.arange(8) // 2)
    torch.testing.assert_close(value, IdentityContrastLoss()(vectors.float(), torch.arange(8) // 2))


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(InputError):
        IdentityContrastLoss()(_vectors(3), torch.arange(3))
    with pytest.raises(SettingsError, match="temperature"):
        IdentityContrastLoss(temperature=0.0)
