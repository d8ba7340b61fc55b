import pytest
import torch
from torch import nn

from reappear.core import SettingsError
from reappear.models import DistillationHead, ProjectionHead


def test_logits_are_cosines_with_the_prototypes() -> None:
    torch.manual_seed(0)
    head = DistillationHead(6, hidden=8, bottleneck=4, prototypes=10)
    features = torch.randn(5, 6)
    unit = head.embed(features).detach()
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(5))
    expected = [[torch.cosine_similarity(u, p, dim=0) for p in head.prototypes.detach()] for u in unit]
    torch.testing.assert_close(head(features).detach(), torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_logits_do_not_depend_on_prototype_length() -> None:
    torch.manual_seed(0)
    head = DistillationHead(6, hidden=8, bottleneck=4, prototypes=10)
    features = torch.randn(5, 6)
    before = head(features)
    with torch.no_grad():
        head.prototypes.mul_(7.0)
    torch.testing.assert_close(head(features), before)


def test_prototypes_begin_as_long_as_torchs_linear_layer_has_them() -> None:
    torch.manual_seed(0)
    ours = DistillationHead(6, bottleneck=256, prototypes=500).prototypes.detach().norm(dim=1)
    linear = nn.Linear(256, 500, bias=False).weight.detach().norm(dim=1)
    assert ours.mean().item() == pytest.approx(linear.mean().item(), rel=0.01)
    longer = DistillationHead(6, bottleneck=256, prototypes=500, prototype_length=2.0).prototypes.detach().norm(dim=1)
    assert longer.mean().item() == pytest.approx(2, rel=0.01)


def test_logits_keep_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    head = DistillationHead(6, hidden=8, bottleneck=4, prototypes=10)
    vectors = torch.nn.functional.normalize(torch.randn(5, 4), dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head.compare(vectors), head.compare(vectors.float()))
        assert head.compare(vectors.bfloat16()).dtype == torch.float32
    assert torch.equal(
        head.compare(vectors), torch.nn.functional.linear(vectors, head.prototypes) / head.prototypes.norm(dim=1)
    )


@pytest.mark.parametrize(("layers", "norm"), [(1, False), (2, True), (3, False), (3, True)])
def test_mlp_equals_dino(layers: int, norm: bool) -> None:
    head = DistillationHead(6, hidden=8, bottleneck=4, prototypes=10, layers=layers, batch_norm=norm)
    kinds = [type(module) for module in head.mlp]
    hidden = [nn.Linear, *([nn.BatchNorm1d] if norm else []), nn.GELU]
    assert kinds == hidden * (layers - 1) + [nn.Linear]
    assert head.mlp[-1].out_features == 4
    assert not head.mlp[0].bias.any()


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="layers: must be 1 or more, got 0"):
        DistillationHead(6, layers=0)
    with pytest.raises(SettingsError, match="prototype_length"):
        DistillationHead(6, prototype_length=0.0)


def test_a_projection_head_without_hidden_layer_is_linear() -> None:
    head = ProjectionHead(6, hidden=0, width=4)
    features = torch.randn(5, 6)
    linear = head.mlp[0]
    expected = features @ linear.weight.T + linear.bias
    torch.testing.assert_close(head.embed(features), expected / expected.norm(dim=1, keepdim=True))
    assert len(list(head.parameters())) == 2
