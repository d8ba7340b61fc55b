import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reappear.core import SettingsError
from reappear.losses import PatchContrastLoss, PatchVectors, relation_divergence
from reappear.train.patches import adjacent_patches

NONE_ADJACENT = torch.zeros(4, 4, dtype=torch.bool)


def _unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def _all(vectors: Tensor) -> PatchVectors:
    return PatchVectors(vectors, torch.ones(vectors.shape[:-1], dtype=torch.bool))


def _literal(
    u: PatchVectors, positive: PatchVectors, negative: PatchVectors, *, tau: float, hardest: int, largest: float
) -> Tensor:
    """Loops over images and patches."""
    images = []
    for i in range(len(u.vectors)):
        losses = []
        for a in range(u.vectors.shape[1]):
            if not u.visible[i, a]:
                continue
            anchor = u.vectors[i, a]
            good = [anchor @ p[a] for p, seen in zip(positive.vectors[i], positive.visible[i], strict=True) if seen[a]]
            if not good:
                continue
            bad = [
                anchor @ n[b]
                for n, seen in zip(negative.vectors[i], negative.visible[i], strict=True)
                for b in range(len(n))
                if b != a and seen[b] and anchor @ n[b] <= largest
            ]
            bad = sorted(bad, reverse=True)[: hardest or None]
            right = torch.exp(min(good) / tau)
            losses.append(-torch.log(right / (right + sum(torch.exp(b / tau) for b in bad))))
        images.append(torch.stack(losses).mean() if losses else torch.zeros((), dtype=torch.float64))
    return torch.stack(images).mean()


@pytest.mark.parametrize("hardest", [0, 1, 3])
@pytest.mark.parametrize("largest", [1.0, 0.1])
def test_loss_and_gradient_are_the_literal_ones(hardest: int, largest: float) -> None:
    random = torch.Generator().manual_seed(1)
    u = _unit(5, 4, 6).requires_grad_()
    parts = [_unit(5, views, 4, 6, seed=views) for views in (3, 2)]
    visible = [torch.rand(5, *shape, generator=random) < 0.6 for shape in ((4,), (3, 4), (2, 4))]
    visible[0][0] = False  # an image without a visible patch
    given = [PatchVectors(*pair) for pair in zip([u, *parts], visible, strict=True)]
    loss = PatchContrastLoss(NONE_ADJACENT, hardest=hardest, max_similarity=largest)
    (slope,) = torch.autograd.grad(loss(*given), u)
    expected = _literal(*given, tau=0.2, hardest=hardest, largest=largest)
    torch.testing.assert_close(loss(*given), expected)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, u)[0])


@pytest.mark.parametrize(("hardest", "negatives"), [(0, 6), (1, 1), (4, 4)])
def test_patches_all_alike_give_the_logarithm_of_their_number(hardest: int, negatives: int) -> None:
    same = _unit(1, 1, 1, 8).expand(3, 2, 4, 8)
    value = PatchContrastLoss(NONE_ADJACENT, hardest=hardest)(_all(same[:, 0]), _all(same), _all(same))
    assert value.item() == pytest.approx(math.log(1 + negatives))


def test_perfect_patches_give_the_lower_bound() -> None:
    axis = torch.zeros(2, 8, dtype=torch.float64)
    axis[0, 0], axis[1, 0] = 1, -1  # two patches, opposite to each other
    views = axis.expand(3, 2, 2, 8)
    value = PatchContrastLoss(NONE_ADJACENT[:2, :2])(_all(views[:, 0]), _all(views), _all(views))
    assert value.item() == pytest.approx(math.log(1 + 2 * math.exp(-2 / 0.2)), abs=1e-12)


def test_hardest_positive_is_the_least_similar_one() -> None:
    u, views = _unit(4, 4, 6), _unit(4, 3, 4, 6, seed=1)
    hardest, mean = (
        PatchContrastLoss(NONE_ADJACENT, positives=kind)(_all(u), _all(views), _all(views))
        for kind in ("hardest", "mean")
    )
    assert hardest > mean


def test_adjacent_patches_are_no_negatives() -> None:
    same = _unit(1, 1, 1, 8).expand(3, 2, 4, 8)
    value = PatchContrastLoss(adjacent_patches(4, 1))(_all(same[:, 0]), _all(same), _all(same))
    # Two views of two patches each for those at the ends, which touch one, and of one for those inside.
    assert value.item() == pytest.approx((math.log(5) + math.log(3)) / 2)


def test_strangers_are_further_negatives() -> None:
    same = _unit(1, 1, 1, 8).expand(3, 2, 4, 8)
    visible = ~torch.eye(3, dtype=torch.bool)[..., None].expand(3, 3, 4)
    strangers = PatchVectors(same[:, 0], visible)
    value = PatchContrastLoss(NONE_ADJACENT)(_all(same[:, 0]), _all(same), _all(same), strangers)
    assert value.item() == pytest.approx(math.log(1 + 6 + 2))


def test_nothing_visible_is_no_loss() -> None:
    u = _unit(2, 4, 6).requires_grad_()
    views = _all(_unit(2, 2, 4, 6))
    value = PatchContrastLoss(NONE_ADJACENT)(PatchVectors(u, torch.zeros(2, 4, dtype=torch.bool)), views, views)
    assert value.item() == 0
    assert torch.equal(torch.autograd.grad(value, u)[0], torch.zeros_like(u))


@pytest.mark.parametrize("kind", ["kl", "sym_kl", "js"])
def test_divergence_is_none_of_the_same_and_above_otherwise(kind: str) -> None:
    random = torch.Generator().manual_seed(0)
    one, other = (4 * torch.randn(7, 9, generator=random) for _ in range(2))
    assert relation_divergence(one + 3, one, kind).item() == pytest.approx(0, abs=1e-6)
    assert relation_divergence(one, other, kind) > 0.1


def test_divergences_are_the_literal_ones() -> None:
    random = torch.Generator().manual_seed(0)
    compared, reference = (torch.randn(5, 6, generator=random, dtype=torch.float64) for _ in range(2))
    q, p = compared.softmax(-1), reference.softmax(-1)

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a / b).log()).sum(-1).mean()

    expected = {
        "kl": kl(p, q),
        "sym_kl": (kl(p, q) + kl(q, p)) / 2,
        "js": (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2,
    }
    for kind, value in expected.items():
        torch.testing.assert_close(relation_divergence(compared, reference, kind), value)


def test_js_is_at_most_ln_2() -> None:
    far = torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 100.0]])
    assert relation_divergence(*far, "js").item() == pytest.approx(math.log(2), abs=1e-5)


def test_no_gradient_flows_into_the_reference() -> None:
    compared, reference = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    relation_divergence(compared, reference).backward()
    assert reference.grad is None
    assert compared.grad is not None


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"hardest": -1}])
def test_settings_out_of_range_are_named(changes: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes))):
        PatchContrastLoss(NONE_ADJACENT, **changes)
