from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import SettingsError

from .necks import BNNeck


class DistillationHead(nn.Module):
    """DINO's projection head: features → MLP → unit bottleneck → scores against unit prototypes.

    The prototypes are weight-normalised without a gain: their length is no parameter at all.

    Args:
        in_features: Width of the backbone's features.
        hidden: Width of the hidden layers.
        bottleneck: Width of the unit vectors that are compared with the prototypes.
        prototypes: How many (K).
        layers: Of the MLP, 1 or more.
        batch_norm: After each hidden layer. DINO has none; small networks slide to the uniform distribution without.
        prototype_length: Initial length of the prototypes (root mean square), above 0. The longer, the less an
            optimiser's step turns them. DINO's linear layer begins with 1/√3.
    """

    def __init__(
        self,
        in_features: int,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        prototypes: int = 65536,
        layers: int = 3,
        batch_norm: bool = False,
        prototype_length: float = 3**-0.5,
    ) -> None:
        super().__init__()
        if not prototype_length > 0:
            raise SettingsError(f"prototype_length: must be above 0, got {prototype_length}")
        for name, value in (("hidden", hidden), ("bottleneck", bottleneck), ("layers", layers)):
            if value < 1:
                raise SettingsError(f"{name}: must be 1 or more, got {value}")
        widths = [in_features, *[hidden] * (layers - 1), bottleneck]
        mlp: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            mlp.append(nn.Linear(before, after))
            if batch_norm:
                mlp.append(nn.BatchNorm1d(after))
            mlp.append(nn.GELU())
        mlp.append(nn.Linear(widths[-2], bottleneck))
        for module in mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.mlp = nn.Sequential(*mlp)
        # Only directions count: whatever the scale, the normalised rows are uniform on the sphere.
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck) * (prototype_length * bottleneck**-0.5))

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Cosines with the prototypes: the logits, in [-1, 1]."""
        return self.compare(self.embed(features))

    def embed(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n bottleneck"]:
        """Unit bottleneck vectors."""
        return F.normalize(self.mlp(features), dim=-1)

    def compare(self, vectors: Float[Tensor, "*n bottleneck"]) -> Float[Tensor, "*n k"]:
        """Cosines of unit vectors with the prototypes, which are not copied to be made unit rows.

        In the prototypes' own precision, under autocast too: divided by a temperature, half precision is too coarse.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            lengths = torch.linalg.vector_norm(self.prototypes, dim=-1).clamp_min(1e-12)
            cosines: Tensor = F.linear(vectors.to(self.prototypes.dtype), self.prototypes) / lengths
        return cosines


class ProjectionHead(nn.Module):
    """MoCo-v2's projection head: features → one hidden layer → unit vectors.

    Args:
        in_features: Width of the backbone's features.
        hidden: Width of the hidden layer; 0 = none: the head is linear.
        width: Of the unit vectors that are compared.
    """

    def __init__(self, in_features: int, *, hidden: int, width: int = 128) -> None:
        super().__init__()
        for name, value, least in (("hidden", hidden, 0), ("width", width, 1)):
            if value < least:
                raise SettingsError(f"{name}: must be {least} or more, got {value}")
        before = [nn.Linear(in_features, hidden), nn.ReLU()] if hidden else []
        self.mlp = nn.Sequential(*before, nn.Linear(hidden or in_features, width))

    def embed(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n width"]:
        """Unit vectors."""
        return F.normalize(self.mlp(features), dim=-1)


class ClassifierHead(nn.Module):
    """BNNeck, then a linear classifier without bias: the head of supervised re-identification.

    Features may consist of parts of equal width, each with a classifier of its own. Weights of the classifiers are
    drawn with a standard deviation of 0.001. Source: Luo et al. 2019, as `BNNeck`.

    Args:
        in_features: Width of the backbone's features, with all parts.
        classes: Identities of the training set.
        parts: How many.
    """

    def __init__(self, in_features: int, classes: int, parts: int = 1) -> None:
        super().__init__()
        self.parts = parts
        self.neck = BNNeck(in_features)
        self.classifiers = nn.Parameter(torch.empty(parts, classes, in_features // parts))
        nn.init.normal_(self.classifiers, std=0.001)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n parts classes"]:
        """Logits of each part."""
        parts = self.embed(features).view(len(features), self.parts, -1)
        return torch.einsum("npd,pcd->npc", parts, self.classifiers)

    def embed(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Features after the neck."""
        normalised: Tensor = self.neck(features)
        return normalised


class NeckHead(nn.Module):
    """BNNeck, then unit length: vectors that are compared with centroids.

    Args:
        in_features: Width of the backbone's features.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.neck = BNNeck(in_features)

    def embed(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Unit vectors."""
        return F.normalize(self.neck(features), dim=-1)


class CosineHead(nn.Module):
    """Cosines of the parts of a vector with weights of each class: for losses with margins, such as circle loss.

    Args:
        in_features: Width of the vector, with all parts.
        classes: Identities of the training set.
        parts: How many parts of equal width, each with weights of its own.
    """

    def __init__(self, in_features: int, classes: int, parts: int = 1) -> None:
        super().__init__()
        self.parts = parts
        self.classifiers = nn.Parameter(torch.empty(parts, classes, in_features // parts))
        nn.init.normal_(self.classifiers, std=0.01)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n parts classes"]:
        """Cosines, in [-1, 1]; in the weights' own precision, under autocast too."""
        with torch.autocast(features.device.type, enabled=False):
            vectors = self.embed(features.to(self.classifiers.dtype)).view(len(features), self.parts, -1)
            return torch.einsum("npd,pcd->npc", vectors, F.normalize(self.classifiers, dim=-1))

    def embed(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The vector with each part of unit length."""
        return F.normalize(features.view(len(features), self.parts, -1), dim=-1).flatten(1)
