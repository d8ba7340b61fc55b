"""The network that methods train: a backbone with a head, on 8-bit RGB images."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.models.embedder import Embedder
from reappear.models.grl import ClipFeatures, ClipNetwork, PairVerifier
from reappear.models.heads import ClassifierHead, CosineHead, DistillationHead, NeckHead, ProjectionHead
from reappear.models.maps import feature_and_map, feature_map
from reappear.models.preprocessing import Preprocessing
from reappear.train.batch_norm import RunningStatistics
from reappear.train.settings import Statistics

Head = DistillationHead | ProjectionHead | ClassifierHead | CosineHead | NeckHead | PairVerifier


class Network(nn.Module):
    """A backbone with its head and its input normalisation.

    Args:
        backbone: Images (n 3 h w) to features (n d).
        head: Its `embed` turns features (n d) into the vectors (n b) that a loss compares.
        preprocessing: How the trained network will see images; views are normalised alike.
        statistics: Views whose batch norm statistics the backbone keeps: those of the first view's size, or all.

    Attributes:
        patch_head: Of patches, for methods that compare them; see `methods.upreid.regularization`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        *,
        preprocessing: Preprocessing,
        statistics: Statistics = "global",
    ) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.channels_last)
        _subsample_strided_1x1(backbone)
        self.head: Head = head
        self.patch_head: ProjectionHead | None = None
        self._feature_and_map = feature_and_map
        self._statistics: Statistics = statistics
        self._running: RunningStatistics | None = None
        self.preprocessing = preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1) * 255, persistent=False)

    def forward(
        self, views: list[UInt8[Tensor, "ids images 3 _ _"]]
    ) -> tuple[Float[Tensor, "views ids images d"], Float[Tensor, "views ids images b"]]:
        """Features and vectors of all views. The backbone runs once per resolution, the head once."""
        features, vectors, _ = self.encode(views)
        return features, vectors

    def encode(
        self, views: list[UInt8[Tensor, "ids images 3 _ _"]], *, mapped: int = 0, gather: bool = True
    ) -> tuple[Float[Tensor, "views ids images d"], Float[Tensor, "views ids images b"], list[Tensor]]:
        """Features and vectors of all views, and the maps (n channels rows columns) of the first of them.

        Args:
            views: RGB 0-255.
            mapped: Number of views whose maps are returned.
            gather: Whether batch norm may gather running statistics from the first view, in training mode.
        """
        sizes: dict[torch.Size, list[int]] = {}
        for index, view in enumerate(views):
            sizes.setdefault(view.shape, []).append(index)
        features: list[Tensor] = []
        maps: dict[int, Tensor] = {}
        for indices in sizes.values():
            images, gathers = torch.cat([views[i].flatten(0, 1) for i in indices]), gather and 0 in indices
            if indices[0] < mapped:
                with self._gathering(gathers):
                    pooled, whole = self._feature_and_map(self.backbone, self._normalise(images))
                maps |= zip(indices, whole.chunk(len(indices)), strict=True)
            else:
                pooled = self.pooled(images, gather=gathers)
            features.append(pooled)
        joined = torch.cat(features)
        shape = (len(views), *views[0].shape[:2], -1)
        features_of, vectors_of = joined.view(shape), self.head.embed(joined).view(shape)
        order = [i for indices in sizes.values() for i in indices]
        if order != sorted(order):  # views of one size did not follow each other
            back = sorted(range(len(order)), key=order.__getitem__)
            features_of, vectors_of = features_of[back], vectors_of[back]
        return features_of, vectors_of, [maps[i] for i in range(mapped)]

    def compile_backbone(self) -> None:
        """Compiles the passes of the backbone."""
        self.backbone.compile(dynamic=False)
        self._feature_and_map = torch.compile(feature_and_map, dynamic=False)

    def embedder(self) -> Embedder:
        """The backbone with its preprocessing, as it is validated and saved."""
        return Embedder(self.backbone, self.preprocessing)

    def pooled(self, images: UInt8[Tensor, "n 3 h w"], *inputs: Tensor, gather: bool = True) -> Float[Tensor, "n d"]:
        """Features of images.

        Args:
            images: RGB 0-255.
            inputs: What else the backbone takes, such as cameras.
            gather: Whether batch norm may gather running statistics from them, in training mode.
        """
        with self._gathering(gather):
            features: Tensor = self.backbone(self._normalise(images), *inputs)
        return features

    def maps(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d rows columns"]:
        """Features of images before pooling, where they are in the image; see `models.maps.feature_map`."""
        with self._gathering(True):
            return feature_map(self.backbone, self._normalise(images))

    def clips(self, clips: UInt8[Tensor, "b t 3 h w"]) -> ClipFeatures:
        """Vectors of clips and of their frames, by a backbone that is for clips."""
        backbone = cast(ClipNetwork, self.backbone)
        with self._gathering(True):
            return backbone.clips(self._normalise(clips.flatten(0, 1)).view_as(clips))

    @contextmanager
    def _gathering(self, on: bool) -> Iterator[None]:
        """Context of a pass, in which batch norm gathers running statistics, or does not.

        It does not outside, so gradient checkpointing, which runs passes again, adds nothing.
        """
        if self._running is None:  # not before the layers are those that are trained; see `Setup.network`
            self._running = RunningStatistics(self.backbone)
        self._running.gather(on or self._statistics == "all")
        yield
        self._running.gather(False)

    def _normalise(self, images: Tensor) -> Tensor:
        # Decoded images are channels-last, which is also the fastest layout for convolutions.
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def unfuse_attention(backbone: nn.Module) -> None:
    """Turns off the fused attention kernel of timm's networks.

    On a CPU in bfloat16, its backward pass over a few hundred tokens is slower than two products and a softmax.
    """
    for layer in backbone.modules():
        if getattr(layer, "fused_attn", False):
            setattr(layer, "fused_attn", False)  # noqa: B010 - known to timm, not to the types of torch


def _subsample_strided_1x1(backbone: nn.Module) -> None:
    """Replaces strided 1×1 convolutions by subsampling and a convolution of stride 1: the same values.

    With few channels in channels-last layout, oneDNN's backward pass writes out of bounds (its issue 6035); FastViT,
    MobileOne and RepVGG begin with such layers.
    """
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.in_channels < 16:
            (down, across), layer.stride = layer.stride, (1, 1)
            if (down, across) != (1, 1):
                layer.register_forward_pre_hook(partial(_subsampled, down, across))


def _subsampled(down: int, across: int, layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return inputs[0][:, :, ::down, ::across]


def feature_spread(features: Float[Tensor, "ids images d"]) -> float:
    """Standard deviation of unit features: 1 spread over the sphere, 0 collapsed to one point."""
    unit = F.normalize(features.float().flatten(0, 1), dim=-1)
    return unit.var(0, unbiased=False).sum().sqrt().item()
