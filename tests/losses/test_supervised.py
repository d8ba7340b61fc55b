"""Losses of supervised re-identification against their sums, written out pair by pair."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from reappear.core import InputError, SettingsError
from reappear.losses import BatchHardTripletLoss, CircleLoss, circle_logits, smoothed_cross_entropy

Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _case(seed: int, n: int, m: int) -> Case:
    """Anchors and others with gradients, two identities or more, each anchor with a positive."""
    random = torch.Generator().manual_seed(seed)
    identity = torch.cat([torch.tensor([0, 0, 1, 1]), torch.randint(0, 2, (n,), generator=random)])
    other = torch.randint(0, 3, (m,), generator=random)
    vectors = torch.randn(len(identity) + m, 3, generator=random, dtype=torch.float64)
    return vectors[: n + 4].requires_grad_(), identity, vectors[n + 4 :].detach().requires_grad_(), other


cases = given(st.integers(0, 1000), st.integers(0, 4), st.integers(0, 4))


def _same_with_gradients(value: torch.Tensor, expected: torch.Tensor, *inputs: torch.Tensor) -> None:
    torch.testing.assert_close(value, expected)
    mine = torch.autograd.grad(value, inputs, allow_unused=True)
    theirs = torch.autograd.grad(expected, inputs, allow_unused=True)
    for one, other, to in zip(mine, theirs, inputs, strict=True):
        torch.testing.assert_close(
            torch.zeros_like(to) if one is None else one, torch.zeros_like(to) if other is None else other
        )


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return ((a - b) ** 2).sum().sqrt()


def literal_triplet(anchors, identity, everyone, labels, margin):
    """Hermans et al. 2017, Eq. 5, with the mean for the sum."""
    total = 0.0
    for i in range(len(anchors)):
        positives = [
            _distance(anchors[i], everyone[p]) for p in range(len(everyone)) if labels[p] == identity[i] and p != i
        ]
        negatives = [_distance(anchors[i], everyone[n]) for n in range(len(everyone)) if labels[n] != identity[i]]
        gap = max(positives) - min(negatives)
        total = total + (torch.log1p(torch.exp(gap)) if margin is None else (margin + gap).clamp_min(0))
    return total / len(anchors)


@settings(max_examples=25, deadline=None)
@cases
def test_triplet_is_the_loop_over_anchors(seed: int, n: int, m: int) -> None:
    anchors, identity, others, other_identity = _case(seed, n, m)
    everyone, labels = torch.cat([anchors, others]), torch.cat([identity, other_identity])
    for margin in (None, 0.3, 2.0):
        value = BatchHardTripletLoss(margin=margin)(anchors, identity, others=others, other_identity=other_identity)
        _same_with_gradients(value, literal_triplet(anchors, identity, everyone, labels, margin), anchors, others)


def literal_circle(anchors, identity, everyone, labels, margin, scale):
    """Sun et al. 2020, Eq. 6 with Eq. 8 for the optima, for each anchor."""
    terms = []
    for i in range(len(anchors)):
        positives, negatives = 0.0, 0.0
        for j in range(len(everyone)):
            s = anchors[i] @ everyone[j] / anchors[i].norm() / everyone[j].norm()
            if labels[j] != identity[i]:
                negatives = negatives + torch.exp(scale * max(0.0, s.item() + margin) * (s - margin))
            elif i != j:
                positives = positives + torch.exp(-scale * max(0.0, 1 + margin - s.item()) * (s - (1 - margin)))
        terms.append(torch.log(1 + negatives * positives))
    return sum(terms) / len(terms)


@settings(max_examples=25, deadline=None)
@cases
def test_circle_is_the_loop_over_pairs(seed: int, n: int, m: int) -> None:
    anchors, identity, others, other_identity = _case(seed, n, m)
    everyone, labels = torch.cat([anchors, others]), torch.cat([identity, other_identity])
    value = CircleLoss(margin=0.25, scale=8.0)(anchors, identity, others=others, other_identity=other_identity)
    _same_with_gradients(value, literal_circle(anchors, identity, everyone, labels, 0.25, 8.0), anchors, others)


def test_cross_entropy_of_circle_logits_is_the_sum_over_classes() -> None:
    """Sun et al. 2020, Eq. 7: the class weights of the others are the negatives, that of the own is the positive."""
    random = torch.Generator().manual_seed(3)
    cosine = (torch.rand(6, 5, generator=random, dtype=torch.float64) * 2 - 1).requires_grad_()
    target = torch.randint(0, 5, (6,), generator=random)
    margin, scale = 0.35, 16.0
    total = 0.0
    for i in range(6):
        s = cosine[i, target[i]]
        positive = torch.exp(-scale * max(0.0, 1 + margin - s.item()) * (s - (1 - margin)))
        negative = sum(
            torch.exp(scale * max(0.0, s.item() + margin) * (s - margin))
            for c, s in enumerate(cosine[i])
            if c != target[i]
        )
        total = total + torch.log(1 + negative * positive)
    value = F.cross_entropy(circle_logits(cosine, target, margin=margin, scale=scale), target)
    _same_with_gradients(value, total / 6, cosine)


@pytest.mark.parametrize(("smoothing", "share"), [(0.0, "all"), (0.1, "all"), (0.1, "others"), (0.5, "others")])
def test_smoothed_cross_entropy_is_the_sum_over_classes(smoothing: float, share: str) -> None:
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 3, generator=random, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 2, 1, 1])
    total = 0.0
    for row, own in zip(logits, target.tolist(), strict=True):
        partition = sum(math.e**one for one in row)
        for c in range(3):
            weight = smoothing / 3 + (1 - smoothing) * (c == own)
            if share == "others":
                weight = 1 - smoothing if c == own else smoothing / 2
            total = total - weight * torch.log(math.e ** row[c] / partition)
    _same_with_gradients(smoothed_cross_entropy(logits, target, smoothing, share=share), total / 4, logits)


def test_triplet_does_not_depend_on_the_order_and_grows_with_the_margin() -> None:
    anchors, identity, _, _ = _case(7, 4, 0)
    order = torch.randperm(len(anchors), generator=torch.Generator().manual_seed(0))
    value = BatchHardTripletLoss()(anchors, identity)
    torch.testing.assert_close(BatchHardTripletLoss()(anchors[order], identity[order]), value)
    by_margin = [BatchHardTripletLoss(margin=m)(anchors, identity).item() for m in (0.1, 1.0, 10.0)]
    assert by_margin == sorted(by_margin)


def test_images_that_are_alike_have_finite_gradients() -> None:
    alike = torch.ones(4, 3, requires_grad=True)
    for loss in (BatchHardTripletLoss(), CircleLoss()):
        gradient = torch.autograd.grad(loss(alike, torch.tensor([0, 0, 1, 1])), alike)[0]
        assert torch.isfinite(gradient).all()


def test_an_anchor_without_a_positive_does_not_count() -> None:
    anchors, identity, _, _ = _case(4, 3, 0)
    lone = torch.full((1, 3), 0.5, dtype=torch.float64, requires_grad=True)
    value = CircleLoss(scale=8.0)(torch.cat([anchors, lone]), torch.cat([identity, torch.tensor([9])]))
    expected = CircleLoss(scale=8.0)(anchors, identity, others=lone, other_identity=torch.tensor([9]))
    _same_with_gradients(value, expected, anchors, lone)


def test_under_autocast_distances_are_in_single_precision() -> None:
    anchors, identity, _, _ = _case(1, 2, 0)
    half = anchors.detach().to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        for loss in (BatchHardTripletLoss(), CircleLoss()):
            assert loss(half, identity).dtype == torch.float32


def test_bad_arguments_are_refused() -> None:
    for make in (
        lambda: BatchHardTripletLoss(margin=0.0),
        lambda: CircleLoss(margin=1.0),
        lambda: CircleLoss(scale=0.0),
    ):
        with pytest.raises(SettingsError):
            make()
    with pytest.raises(InputError, match="positive and a negative"):
        CircleLoss()(torch.eye(3), torch.tensor([0, 0, 0]))
