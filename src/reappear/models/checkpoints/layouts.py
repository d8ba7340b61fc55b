"""Conversion of the tensor names of other projects."""

import re
from collections.abc import Callable
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from timm.models import convnext, edgenext, fastvit
from torch import Tensor, nn

Named = dict[str, Tensor]

_MOST_POSITIONS = 1 << 16  # patches of 16 px of an image of 4096 x 4096

_PREFIXES = ("module.", "backbone.", "encoder_q.", "base.")


def of_backbone(named: Named) -> tuple[Named, tuple[str, ...]]:
    """Without prefixes; where a prefix marks the backbone, what lacks it belongs to a head, whose names come second."""
    heads: tuple[str, ...] = ()
    for _ in range(3):
        for prefix in _PREFIXES:
            inside = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
            if not inside:
                continue
            heads += tuple(name for name in named if not name.startswith(prefix))
            named = inside
    return named, heads


def as_in_timm(named: Named, model: nn.Module) -> Named:
    """From the names of a network's first authors, which CION's public code keeps, to those of timm.

    Unknown names are kept, for `load_checkpoint` to report.
    """
    kind = type(model).__name__
    if model.state_dict().keys() <= named.keys():
        return named
    if kind == "RepVit" and "features.0.0.c.weight" in named:
        return _repvit(named)
    if kind == "SwinTransformer" and "layers.0.downsample.norm.weight" in named:
        return _swin(named)
    if kind in _CONVERTERS:
        try:
            return dict(_CONVERTERS[kind](dict(named), model))
        except Exception:  # timm's converters stumble over names and shapes that are not of this network
            return named
    return named


_CONVERTERS: dict[str, Callable[[Named, nn.Module], Named]] = {
    "ConvNeXt": convnext.checkpoint_filter_fn,
    "EdgeNeXt": edgenext.checkpoint_filter_fn,
    "FastVit": fastvit.checkpoint_filter_fn,
}


def _swin(named: Named) -> Named:
    """A stage ends in what timm begins the next with; mmdetection calls the last norm norm3; indices are no weights."""
    out = {}
    for name, value in named.items():
        if "relative_position_index" in name or "attn_mask" in name:
            continue
        name = re.sub(r"^layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", name)
        out[re.sub(r"^norm3\.", "norm.", name)] = value
    return out


def _repvit(named: Named) -> Named:
    """One flat list of blocks to stages: a block of stride 2 opens a stage, and takes in the block before it."""
    numbers = (name.split(".")[1] for name in named if name.startswith("features."))
    blocks = sorted({int(number) for number in numbers if _is_number(number)} - {0})
    openers = [block for block in blocks if f"features.{block}.token_mixer.0.c.weight" in named]
    places, stage, position = {}, 0, 0
    for block in blocks:
        if block in openers:
            stage, position = stage + 1, 0
            places[block] = f"stages.{stage}.downsample"
        elif block + 1 in openers:
            places[block] = f"stages.{stage + 1}.downsample.pre_block"
        else:
            places[block] = f"stages.{stage}.blocks.{position}"
            position += 1
    out = {}
    for name, value in named.items():
        first, number, rest = [*name.split(".", 2), "", ""][:3]
        if first != "features" or not _is_number(number):
            out[name] = value
        elif int(number) == 0:
            out[f"stem.conv{1 if rest[:1] == '0' else 2}.{rest[2:]}"] = value
        else:
            inside = _OPENER if int(number) in openers else _BLOCK
            for theirs, ours in inside:
                rest = re.sub(theirs, ours, rest)
            out[f"{places[int(number)]}.{rest}"] = value
    return out


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= 4


_BLOCK = (
    (r"^token_mixer\.0\.", "token_mixer."),
    (r"^token_mixer\.1\.", "se."),
    (r"^se\.conv_reduce\.", "se.fc1."),
    (r"^se\.conv_expand\.", "se.fc2."),
    (r"^channel_mixer\.m\.0\.", "channel_mixer.conv1."),
    (r"^channel_mixer\.m\.2\.", "channel_mixer.conv2."),
)
_OPENER = (
    (r"^token_mixer\.0\.", "spatial_downsample."),
    (r"^token_mixer\.2\.", "channel_downsample."),
    (r"^channel_mixer\.m\.0\.", "ffn.conv1."),
    (r"^channel_mixer\.m\.2\.", "ffn.conv2."),
)


def with_positions_of(model: nn.Module, named: Named) -> Named:
    """With the position embedding of another image size interpolated (bicubic) to the model's."""
    own, given = model.state_dict().get("pos_embed"), named.get("pos_embed")
    if own is None or given is None or own.shape == given.shape or own.shape[-1:] != given.shape[-1:]:
        return named
    if given.numel() > _MOST_POSITIONS * given.shape[-1] or not given.is_floating_point():
        return named
    if own.ndim == given.ndim == 4:  # VOLO
        resized = resample_abs_pos_embed_nhwc(given, list(own.shape[1:3]))
        return {**named, "pos_embed": resized}
    network: Any = model
    if not own.ndim == given.ndim == 3 or not hasattr(network, "num_prefix_tokens"):
        return named
    prefix = 0 if getattr(network, "no_embed_class", False) else network.num_prefix_tokens
    grid = _grid(given.shape[1] - prefix)
    if grid is None:
        return named
    size = list(network.patch_embed.grid_size)
    return {**named, "pos_embed": resample_abs_pos_embed(given, size, list(grid), num_prefix_tokens=prefix)}


def _grid(tokens: int) -> tuple[int, int] | None:
    """Rows and columns of so many patches: of a square image, or of one that is two or three times as tall as wide."""
    for ratio in (1, 2, 3):
        columns = round((tokens / ratio) ** 0.5)
        if columns and ratio * columns**2 == tokens:
            return ratio * columns, columns
    return None
