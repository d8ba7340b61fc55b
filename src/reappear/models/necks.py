"""Necks: layers between the features of a backbone and the vector that images are compared by."""

from typing import Any, Literal

from torch import nn

NeckKind = Literal["none", "bnneck"]


class BNNeck(nn.BatchNorm1d):
    """Batch normalisation of features (n d) with a bias that stays 0.

    Triplet losses take the features before it, a classifier without bias those after it. Source: Luo et al. 2019, "Bag
    of Tricks and a Strong Baseline for Deep Person Re-identification", section 3.6.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.bias.requires_grad_(False)


def build_neck(kind: NeckKind, features: int) -> nn.Module:
    """A neck for features of this width; "none" passes them on unchanged."""
    return BNNeck(features) if kind == "bnneck" else nn.Identity()


def neck_kind(neck: nn.Module) -> NeckKind:
    """The kind that `build_neck` takes to build such a neck."""
    kinds: dict[Any, NeckKind] = {BNNeck: "bnneck", nn.Identity: "none"}
    return kinds[type(neck)]
