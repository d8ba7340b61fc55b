"""GRL: clips of a tracklet to one vector (Liu et al. 2021, "Watching You"), with two simpler poolings beside it.

Formulas are those of the public code; the paper names the parts.
"""

from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import SettingsError

from .clips import Compat
from .maps import feature_map, map_shape

ClipPooling = Literal["grl", "attention", "average"]
VECTORS: dict[ClipPooling, int] = {"grl": 3, "attention": 2, "average": 1}  # side by side in the descriptor


class ClipFeatures(NamedTuple):
    """Unit vectors of clips.

    Attributes:
        frames: Of each frame (c).
        clip: Of each clip (p).
        memory: Of what the frames have in common least (u); GRL alone has it.
    """

    frames: Float[Tensor, "b t d"]
    clip: Float[Tensor, "b d"]
    memory: Float[Tensor, "b d"] | None


class CorrelationEstimation(nn.Module):
    """Global-guided correlation estimation: how much each place of a map agrees with the clip as a whole.

    `g = ReLU(BN(W mean(X)))` over time and place; `R = sigmoid(psi([X; g]))`, psi 1×1 convolutions. High-correlation
    features are `R X`, low-correlation ones `X - R X`.

    Args:
        channels: Of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle, last = max(1, channels // 2), max(1, channels // 8)
        self.guide = nn.Sequential(nn.Linear(channels, middle), nn.BatchNorm1d(middle), nn.ReLU())
        self.score = nn.Sequential(
            nn.Conv2d(channels + middle, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.Conv2d(middle, last, 1, bias=False),
            nn.BatchNorm2d(last),
            nn.ReLU(),
            nn.Conv2d(last, 1, 1, bias=False),
            nn.BatchNorm2d(1),
        )

    def forward(self, maps: Float[Tensor, "b t c rows columns"]) -> Float[Tensor, "b t 1 rows columns"]:
        """R, in (0, 1)."""
        guide = self.guide(maps.mean((1, 3, 4)))[:, None, :, None, None]
        seen = torch.cat([maps, guide.expand(-1, maps.shape[1], -1, *maps.shape[3:])], 2)
        correlation: Tensor = torch.sigmoid(self.score(seen.flatten(0, 1)))
        return _split(correlation, maps)


class ReciprocalLearning(nn.Module):
    """One direction of temporal reciprocal learning.

    From `M_0 = mean_t L_t`, for each frame: the enhancement block weighs the channels of `H_t` by how they differ from
    the memory of the frames before, `a = sigmoid(V2 ReLU(V1 GAP((ReLU(P M) - ReLU(Q H_t))^2)))`, and
    `h_t = GAP(a H_t + H_t)`; then the memory block takes the frame in: `S = M + L_t`, `M <- ReLU(S + F(S))`.

    Args:
        channels: Of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        few, some = max(1, channels // 16), max(1, channels // 4)
        self.of_memory, self.of_frame = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.weigh = nn.Sequential(
            nn.Linear(channels, few, bias=False), nn.ReLU(), nn.Linear(few, channels, bias=False), nn.Sigmoid()
        )
        self.absorb = nn.Sequential(
            nn.Conv2d(channels, some, 1, bias=False),
            nn.BatchNorm2d(some),
            nn.ReLU(),
            nn.Conv2d(some, some, 1, bias=False),
            nn.BatchNorm2d(some),
            nn.ReLU(),
            nn.Conv2d(some, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(
        self, high: Float[Tensor, "b t c rows columns"], low: Float[Tensor, "b t c rows columns"]
    ) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b c"]]:
        """Enhanced features of each frame, and the pooled memory after the last."""
        memory, pooled = low.mean(1), high.mean((3, 4))
        projected = _split(F.relu(self.of_frame(high.flatten(0, 1))), high)
        frames = []
        for mean, seen, other in zip(pooled.unbind(1), projected.unbind(1), low.unbind(1), strict=True):
            difference = (F.relu(self.of_memory(memory)) - seen).square()
            frames.append(mean * (1 + self.weigh(difference.mean((2, 3)))))  # GAP(a H + H): a has no place
            total = memory + other
            memory = F.relu(total + self.absorb(total))
        return torch.stack(frames, 1), memory.mean((2, 3))


class AttentionPooling(nn.Module):
    """Frames of a clip to one unit vector: each frame asks all frames, and what they answer is added up.

    `q = norm(BN(W_q c))`, `k = norm(BN(W_k c))`, `p = norm(sum_i sum_j softmax_j(q_i.k_j) c_j)`. Logits are cosines, so
    that no frame weighs more than e^2 times another.

    Args:
        width: Of the vectors of frames.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 4)
        self.query = nn.Sequential(nn.Linear(width, inner), nn.BatchNorm1d(inner))
        self.key = nn.Sequential(nn.Linear(width, inner), nn.BatchNorm1d(inner))

    def forward(self, frames: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        """The vector of each clip."""
        query, key = (
            _split(F.normalize(layer(frames.flatten(0, 1)), dim=-1), frames) for layer in (self.query, self.key)
        )
        weights = torch.softmax(query @ key.transpose(1, 2), -1)
        return F.normalize((weights @ frames).sum(1), dim=-1)


class ClipNetwork(nn.Module):
    """A backbone of images, and what makes one vector of the frames of a clip.

    The descriptor has, of GRL, the vector of the memory, that of the clip, and the mean of those of its frames; of
    "attention" the last two; of "average" that of the clip alone. Each is of unit length; under "official" the mean is
    left shorter, so that it weighs less where frames disagree.

    An image is a clip of one frame: the network can be used like any backbone.

    Args:
        network: Has a map of features; see `feature_map`.
        pooling: What makes a clip's vector of those of its frames.
        frames: T of the clips that it is trained on; other lengths work.
        compat: What the public code does differently: see above, and `clip_positions`.
    """

    def __init__(
        self, network: nn.Module, *, pooling: ClipPooling = "grl", frames: int = 8, compat: Compat = "fixed"
    ) -> None:
        super().__init__()
        for name, value, known in (("pooling", pooling, VECTORS), ("compat", compat, get_args(Compat))):
            if value not in known:
                raise SettingsError(f"{name}: must be one of {', '.join(known)}, got {value!r}")
        if not isinstance(frames, int) or frames < 1:
            raise SettingsError(f"frames: must be 1 or more, got {frames!r}")
        if not hasattr(network, "forward_features"):
            raise SettingsError(f"{type(network).__name__}: clips need a backbone of images, such as resnet50")
        width = map_shape(network, 256, 128)[0]
        self.network = network
        _freeze_after_map(network)
        self.clip_frames, self.compat = frames, compat
        self.num_features = VECTORS[pooling] * width
        grl = pooling == "grl"
        self.correlation = CorrelationEstimation(width) if grl else None
        self.forwards = ReciprocalLearning(width) if grl else None
        self.backwards = ReciprocalLearning(width) if grl else None
        self.memory_norm = nn.BatchNorm1d(width) if grl else None
        self.frame_norm = nn.BatchNorm1d(width)
        self.attention = None if pooling == "average" else AttentionPooling(width)

    def forward(self, images: Float[Tensor, "n 3 h w"] | Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "_ d"]:
        """Descriptors of clips, or of images as clips of one frame."""
        frames, clip, memory = self.clips(images[:, None] if images.ndim == 4 else images)
        if self.attention is None:
            return clip
        mean = frames.mean(1)
        if self.compat == "fixed":
            mean = F.normalize(mean, dim=-1)
        return torch.cat([clip, mean] if memory is None else [memory, clip, mean], 1)

    def clips(self, clips: Float[Tensor, "b t 3 h w"]) -> ClipFeatures:
        """Unit vectors of frames and clips, before they are joined to a descriptor."""
        maps, memory = self._maps(clips), None
        if self.correlation is None or self.forwards is None or self.backwards is None or self.memory_norm is None:
            frames = maps.mean((3, 4))
        else:
            high = self.correlation(maps) * maps
            low = maps - high
            frames, last = self.forwards(high, low)
            again, first = self.backwards(high.flip(1), low.flip(1))
            frames, memory = frames + again.flip(1), F.normalize(self.memory_norm(last + first), dim=-1)
        frames = _split(F.normalize(self.frame_norm(frames.flatten(0, 1)), dim=-1), frames)
        clip = F.normalize(frames.mean(1), dim=-1) if self.attention is None else self.attention(frames)
        return ClipFeatures(frames, clip, memory)

    def correlations(self, clips: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t rows columns"]:
        """Correlation of each place of each frame with its clip, in (0, 1); 1 everywhere where nothing estimates it."""
        maps = self._maps(clips)
        if self.correlation is None:
            return torch.ones_like(maps[:, :, 0])
        return torch.as_tensor(self.correlation(maps)[:, :, 0])

    def _maps(self, clips: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t c rows columns"]:
        return _split(feature_map(self.network, clips.flatten(0, 1)), clips)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """One layer and its pooling: learning rates by layer are for a backbone's own."""
        after = r"^(correlation|forwards|backwards|memory_norm|frame_norm|attention)"
        return {"stem": r"^network", "blocks": [(after, (99999,))]}


class PairVerifier(nn.Module):
    """Logits of whether two vectors are of one person: from `(x - y)^2`, batch norm and a linear layer.

    Args:
        width: Of the vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.classifier = nn.BatchNorm1d(width), nn.Linear(width, 2)

    def forward(self, first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> Float[Tensor, "n m 2"]:
        """Of all pairs: first for two people, then for one."""
        differences = (first[:, None] - second).square()
        logits: Tensor = self.classifier(self.norm(differences.flatten(0, 1)))
        return _split(logits, differences)

    def embed(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Vectors as they are."""
        return vectors


def _freeze_after_map(network: nn.Module) -> None:
    """Takes from training what follows a network's map, such as ConvNeXt's norm of the mean: clips do not need it."""
    was_training, (first, *_) = network.training, network.parameters()
    trained = [p for p in network.parameters() if p.requires_grad]
    network.eval()
    with torch.enable_grad():
        maps = feature_map(network, torch.zeros(1, 3, 256, 128, device=first.device, dtype=first.dtype))
        gradients = torch.autograd.grad(maps.sum(), trained, allow_unused=True)
    network.train(was_training)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def _split(rows: Tensor, like: Tensor) -> Tensor:
    """Rows (b*t ...) as (b t ...), as those that they were made of."""
    return rows.view(*like.shape[:2], *rows.shape[1:])


def grl(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    *,
    network: str = "resnet50",
    pooling: ClipPooling = "grl",
    frames: int = 8,
    compat: Compat = "fixed",
    **kw: Any,
) -> ClipNetwork:
    """The backbone of this name for clips. There are no weights; the first four arguments are timm's to all models."""
    from .registry import create_model

    return ClipNetwork(create_model(network, **kw), pooling=pooling, frames=frames, compat=compat)


OWN = [register_model(grl).__name__]
