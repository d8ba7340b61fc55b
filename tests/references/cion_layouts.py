"""Names and shapes of the tensors in CION's public checkpoints, as its code declares them.

Written down by hand from the public definitions, so that nothing here follows from ours or from timm's.
"""

Shapes = dict[str, tuple[int, ...]]


class Layout:
    """Collects names and shapes."""

    def __init__(self) -> None:
        self.shapes: Shapes = {}

    def conv(self, name: str, out: int, per_group: int, size: int, bias: bool = False) -> None:
        self.shapes[f"{name}.weight"] = (out, per_group, size, size)
        if bias:
            self.shapes[f"{name}.bias"] = (out,)

    def linear(self, name: str, out: int, inside: int, bias: bool = True) -> None:
        self.shapes[f"{name}.weight"] = (out, inside)
        if bias:
            self.shapes[f"{name}.bias"] = (out,)

    def norm(self, name: str, width: int) -> None:
        """Layer norm, or instance norm with weights."""
        self.shapes[f"{name}.weight"] = self.shapes[f"{name}.bias"] = (width,)

    def batch_norm(self, name: str, width: int) -> None:
        self.norm(name, width)
        self.shapes[f"{name}.running_mean"] = self.shapes[f"{name}.running_var"] = (width,)
        self.shapes[f"{name}.num_batches_tracked"] = ()

    def conv_bn(self, name: str, out: int, per_group: int, size: int, conv: str = "conv") -> None:
        self.conv(f"{name}.{conv}", out, per_group, size)
        self.batch_norm(f"{name}.bn", out)

    def ibn(self, name: str, width: int) -> None:
        self.norm(f"{name}.IN", width // 2)
        self.batch_norm(f"{name}.BN", width - width // 2)

    def mlp(self, name: str, width: int, hidden: int, first: str = "fc1", second: str = "fc2") -> None:
        self.linear(f"{name}{first}", hidden, width)
        self.linear(f"{name}{second}", width, hidden)


def _divisible(value: float, divisor: int) -> int:
    new = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return new + divisor if new < 0.9 * value else new


def resnet(depths: tuple[int, ...], bottleneck: bool, ibn: bool) -> Shapes:
    layout = Layout()
    layout.conv("conv1", 64, 3, 7)
    layout.batch_norm("bn1", 64)
    inside = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        out = width * (4 if bottleneck else 1)
        for index in range(depth):
            at = f"layer{stage + 1}.{index}"
            layout.conv(f"{at}.conv1", width, inside, 1 if bottleneck else 3)
            (layout.ibn if ibn and stage < 3 else layout.batch_norm)(f"{at}.bn1", width)
            layout.conv(f"{at}.conv2", width, width, 3)
            layout.batch_norm(f"{at}.bn2", width)
            if bottleneck:
                layout.conv(f"{at}.conv3", out, width, 1)
                layout.batch_norm(f"{at}.bn3", out)
            if index == 0 and (stage > 0 or inside != out):
                layout.conv(f"{at}.downsample.0", out, inside, 1)
                layout.batch_norm(f"{at}.downsample.1", out)
            inside = out
    return layout.shapes


# kernel, expansion, channels, squeeze-excite, stride; one list per stage
_GHOST = [
    [(3, 16, 16, 0, 1)],
    [(3, 48, 24, 0, 2)],
    [(3, 72, 24, 0, 1)],
    [(5, 72, 40, 1, 2)],
    [(5, 120, 40, 1, 1)],
    [(3, 240, 80, 0, 2)],
    [(3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1), (3, 480, 112, 1, 1), (3, 672, 112, 1, 1)],
    [(5, 672, 160, 1, 2)],
    [(5, 960, 160, 0, 1), (5, 960, 160, 1, 1), (5, 960, 160, 0, 1), (5, 960, 160, 1, 1)],
]


def ghostnet(width: float) -> Shapes:
    layout = Layout()

    def ghost(name: str, inside: int, out: int) -> None:
        half = -(-out // 2)
        layout.conv(f"{name}.primary_conv.0", half, inside, 1)
        layout.batch_norm(f"{name}.primary_conv.1", half)
        layout.conv(f"{name}.cheap_operation.0", half, 1, 3)
        layout.batch_norm(f"{name}.cheap_operation.1", half)

    inside = _divisible(16 * width, 4)
    layout.conv("conv_stem", inside, 3, 3)
    layout.batch_norm("bn1", inside)
    for stage, blocks in enumerate(_GHOST):
        for index, (kernel, expansion, channels, squeeze, stride) in enumerate(blocks):
            at = f"blocks.{stage}.{index}"
            middle, out = _divisible(expansion * width, 4), _divisible(channels * width, 4)
            ghost(f"{at}.ghost1", inside, middle)
            if stride > 1:
                layout.conv(f"{at}.conv_dw", middle, 1, kernel)
                layout.batch_norm(f"{at}.bn_dw", middle)
            if squeeze:
                layout.conv(f"{at}.se.conv_reduce", _divisible(middle / 4, 4), middle, 1, bias=True)
                layout.conv(f"{at}.se.conv_expand", middle, _divisible(middle / 4, 4), 1, bias=True)
            ghost(f"{at}.ghost2", middle, out)
            if inside != out or stride > 1:
                layout.conv(f"{at}.shortcut.0", inside, 1, kernel)
                layout.batch_norm(f"{at}.shortcut.1", inside)
                layout.conv(f"{at}.shortcut.2", out, inside, 1)
                layout.batch_norm(f"{at}.shortcut.3", out)
            inside = out
    last = _divisible(960 * width, 4)
    layout.conv("blocks.9.0.conv", last, inside, 1)
    layout.batch_norm("blocks.9.0.bn1", last)
    layout.conv("conv_head", 1280, last, 1, bias=True)
    return layout.shapes


def _convnext_frame(layout: Layout, widths: tuple[int, ...]) -> None:
    layout.conv("downsample_layers.0.0", widths[0], 3, 4, bias=True)
    layout.norm("downsample_layers.0.1", widths[0])
    for i in (1, 2, 3):
        layout.norm(f"downsample_layers.{i}.0", widths[i - 1])
        layout.conv(f"downsample_layers.{i}.1", widths[i], widths[i - 1], 2, bias=True)
    layout.norm("norm", widths[3])


def _convnext_block(layout: Layout, at: str, width: int, kernel: int) -> None:
    layout.shapes[f"{at}.gamma"] = (width,)
    layout.conv(f"{at}.dwconv", width, 1, kernel, bias=True)
    layout.norm(f"{at}.norm", width)
    layout.mlp(f"{at}.", width, 4 * width, "pwconv1", "pwconv2")


def convnext(depths: tuple[int, ...], widths: tuple[int, ...]) -> Shapes:
    layout = Layout()
    _convnext_frame(layout, widths)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            _convnext_block(layout, f"stages.{stage}.{index}", widths[stage], 7)
    return layout.shapes


def edgenext(widths: tuple[int, ...], heads: int) -> Shapes:
    layout = Layout()
    _convnext_frame(layout, widths)
    for stage, (depth, kernel, scales) in enumerate(((3, 3, 2), (3, 5, 2), (9, 7, 3), (3, 9, 4))):
        width = widths[stage]
        attending = depth - 1 if stage else depth
        for index in range(attending):
            _convnext_block(layout, f"stages.{stage}.{index}", width, kernel)
        if not stage:
            continue
        at = f"stages.{stage}.{attending}"
        layout.shapes[f"{at}.gamma_xca"] = layout.shapes[f"{at}.gamma"] = (width,)
        for index in range(scales - 1):
            layout.conv(f"{at}.convs.{index}", -(-width // scales), 1, 3, bias=True)
        if stage == 1:
            layout.conv(f"{at}.pos_embd.token_projection", width, 64, 1, bias=True)
        layout.norm(f"{at}.norm_xca", width)
        layout.shapes[f"{at}.xca.temperature"] = (heads, 1, 1)
        layout.linear(f"{at}.xca.qkv", 3 * width, width)
        layout.linear(f"{at}.xca.proj", width, width)
        layout.norm(f"{at}.norm", width)
        layout.mlp(f"{at}.", width, 4 * width, "pwconv1", "pwconv2")
    return layout.shapes


def repvit(stages: tuple[tuple[int, str], ...]) -> Shapes:
    """Stages as width and, for each block of stride 1, `s` with squeeze-excite or `-` without."""
    layout = Layout()
    first = stages[0][0]
    layout.conv_bn("features.0.0", first // 2, 3, 3, conv="c")
    layout.conv_bn("features.0.2", first, first // 2, 3, conv="c")
    number, inside = 1, first
    for stage, (width, blocks) in enumerate(stages):
        if stage:
            at = f"features.{number}"
            layout.conv_bn(f"{at}.token_mixer.0", inside, 1, 3, conv="c")
            layout.conv_bn(f"{at}.token_mixer.2", width, inside, 1, conv="c")
            layout.conv_bn(f"{at}.channel_mixer.m.0", 2 * width, width, 1, conv="c")
            layout.conv_bn(f"{at}.channel_mixer.m.2", width, 2 * width, 1, conv="c")
            number, inside = number + 1, width
        for block in blocks:
            at = f"features.{number}"
            layout.conv_bn(f"{at}.token_mixer.0.conv", width, 1, 3, conv="c")
            layout.conv(f"{at}.token_mixer.0.conv1", width, 1, 1, bias=True)
            layout.batch_norm(f"{at}.token_mixer.0.bn", width)
            if block == "s":
                hidden = _divisible(width / 4, 4)
                layout.conv(f"{at}.token_mixer.1.conv_reduce", hidden, width, 1, bias=True)
                layout.conv(f"{at}.token_mixer.1.conv_expand", width, hidden, 1, bias=True)
            layout.conv_bn(f"{at}.channel_mixer.m.0", 2 * width, width, 1, conv="c")
            layout.conv_bn(f"{at}.channel_mixer.m.2", width, 2 * width, 1, conv="c")
            number += 1
    return layout.shapes


def fastvit(depths: tuple[int, ...], attention: bool) -> Shapes:
    layout = Layout()

    def one(name: str, out: int, per_group: int, size: int, skip: bool = True, scale: bool = True) -> None:
        """A MobileOne block in its form for training."""
        if skip:
            layout.batch_norm(f"{name}.rbr_skip", out)
        layout.conv_bn(f"{name}.rbr_conv.0", out, per_group, size)
        if scale and size > 1:
            layout.conv_bn(f"{name}.rbr_scale", out, per_group, 1)

    one("patch_embed.0", 64, 3, 3, skip=False)
    one("patch_embed.1", 64, 1, 3, skip=False)
    one("patch_embed.2", 64, 64, 1)
    number = 0
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        attends = attention and stage == 3
        if attends:
            layout.conv(f"network.{number}.pe", width, 1, 7, bias=True)
            number += 1
        for index in range(depth):
            at = f"network.{number}.{index}"
            if attends:
                layout.batch_norm(f"{at}.norm", width)
                layout.linear(f"{at}.token_mixer.qkv", 3 * width, width, bias=False)
                layout.linear(f"{at}.token_mixer.proj", width, width)
                layout.shapes[f"{at}.layer_scale_1"] = layout.shapes[f"{at}.layer_scale_2"] = (width, 1, 1)
            else:
                layout.batch_norm(f"{at}.token_mixer.norm.rbr_skip", width)
                one(f"{at}.token_mixer.mixer", width, 1, 3)
                layout.shapes[f"{at}.token_mixer.layer_scale"] = layout.shapes[f"{at}.layer_scale"] = (width, 1, 1)
            layout.conv_bn(f"{at}.convffn.conv", width, 1, 7)
            layout.conv(f"{at}.convffn.fc1", 4 * width, width, 1, bias=True)
            layout.conv(f"{at}.convffn.fc2", width, 4 * width, 1, bias=True)
        number += 1
        if stage < 3:
            layout.conv_bn(f"network.{number}.proj.0.lkb_origin", 2 * width, 1, 7)
            layout.conv_bn(f"network.{number}.proj.0.small_conv", 2 * width, 1, 3)
            one(f"network.{number}.proj.1", 2 * width, 2 * width, 1)
            number += 1
    layout.conv("conv_exp.se.reduce", 64, 1024, 1, bias=True)
    layout.conv("conv_exp.se.expand", 1024, 64, 1, bias=True)
    one("conv_exp", 1024, 1, 3, skip=False)
    return layout.shapes


def _transformer(layout: Layout, at: str, width: int, ratio: int, bias: bool) -> None:
    layout.norm(f"{at}.norm1", width)
    layout.linear(f"{at}.attn.qkv", 3 * width, width, bias=bias)
    layout.linear(f"{at}.attn.proj", width, width)
    layout.norm(f"{at}.norm2", width)
    layout.mlp(f"{at}.mlp.", width, ratio * width)


def _stem(layout: Layout, norm: str, width: int, patch: int) -> None:
    for index, (inside, size) in enumerate(((3, 7), (64, 3), (64, 3))):
        layout.conv(f"patch_embed.conv.{3 * index}", 64, inside, size)
        ibn = norm == "ibn" and index < 2
        (layout.ibn if ibn else layout.batch_norm)(f"patch_embed.conv.{3 * index + 1}", 64)
    layout.conv("patch_embed.proj", width, 64, patch, bias=True)


def volo(depths: tuple[int, ...], first: int, width: int, heads: int) -> Shapes:
    layout = Layout()
    layout.shapes["pos_embed"] = (1, 16, 8, width)
    layout.shapes["cls_token"] = (1, 1, width)
    _stem(layout, "batch", first, 4)
    for index in range(depths[0]):
        at = f"network.0.{index}"
        layout.norm(f"{at}.norm1", first)
        layout.linear(f"{at}.attn.v", first, first, bias=False)
        layout.linear(f"{at}.attn.attn", 81 * heads, first)
        layout.linear(f"{at}.attn.proj", first, first)
        layout.norm(f"{at}.norm2", first)
        layout.mlp(f"{at}.mlp.", first, 3 * first)
    layout.conv("network.1.proj", width, first, 2, bias=True)
    for stage, depth in enumerate(depths[1:]):
        for index in range(depth):
            _transformer(layout, f"network.{stage + 2}.{index}", width, 3, bias=False)
    for index in range(2):
        at = f"post_network.{index}"
        layout.norm(f"{at}.norm1", width)
        layout.linear(f"{at}.attn.kv", 2 * width, width, bias=False)
        layout.linear(f"{at}.attn.q", width, width, bias=False)
        layout.linear(f"{at}.attn.proj", width, width)
        layout.norm(f"{at}.norm2", width)
        layout.mlp(f"{at}.mlp.", width, 3 * width)
    layout.norm("norm", width)
    return layout.shapes


def vit(width: int) -> Shapes:
    layout = Layout()
    layout.shapes["cls_token"] = (1, 1, width)
    layout.shapes["pos_embed"] = (1, 129, width)
    _stem(layout, "ibn", width, 8)
    for index in range(12):
        _transformer(layout, f"blocks.{index}", width, 4, bias=True)
    layout.norm("norm", width)
    return layout.shapes


def swin(depths: tuple[int, ...], width: int) -> Shapes:
    layout = Layout()
    layout.conv("patch_embed.proj", width, 3, 4, bias=True)
    layout.norm("patch_embed.norm", width)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            at = f"layers.{stage}.blocks.{index}"
            _transformer(layout, at, width, 4, bias=True)
            layout.shapes[f"{at}.attn.relative_position_bias_table"] = (225, width // 32)
            layout.shapes[f"{at}.attn.relative_position_index"] = (64, 64)
        if stage < 3:
            layout.linear(f"layers.{stage}.downsample.reduction", 2 * width, 4 * width, bias=False)
            layout.norm(f"layers.{stage}.downsample.norm", 4 * width)
            width *= 2
    layout.norm("norm3", width)
    return layout.shapes


_S18, _S50, _S101, _S152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
_M0, _M1 = ("s--", "s--", "s-s-s-s-s-s-s--", "s-"), ("s-s--", "s-s--", "s-s-s-s-s-s-s-s-s-s-s-s--", "s-s-")


def _repvit(first: int, blocks: tuple[str, ...]) -> Shapes:
    return repvit(tuple((first * 2**stage, marks) for stage, marks in enumerate(blocks)))


LAYOUTS: dict[str, Shapes] = {
    "resnet18": resnet(_S18, bottleneck=False, ibn=False),
    "resnet50": resnet(_S50, bottleneck=True, ibn=False),
    "resnet101": resnet(_S101, bottleneck=True, ibn=False),
    "resnet152": resnet(_S152, bottleneck=True, ibn=False),
    "resnet18_ibn": resnet(_S18, bottleneck=False, ibn=True),
    "resnet50_ibn": resnet(_S50, bottleneck=True, ibn=True),
    "resnet101_ibn": resnet(_S101, bottleneck=True, ibn=True),
    "resnet152_ibn": resnet(_S152, bottleneck=True, ibn=True),
    "ghostnet_0_5": ghostnet(0.5),
    "ghostnet_1_0": ghostnet(1.0),
    "ghostnet_1_3": ghostnet(1.3),
    "edgenext_x_small": edgenext((32, 64, 100, 192), heads=4),
    "edgenext_small": edgenext((48, 96, 160, 304), heads=8),
    "edgenext_base": edgenext((80, 160, 288, 584), heads=8),
    "repvit_m0_9": _repvit(48, _M0),
    "repvit_m1_0": _repvit(56, _M0),
    "repvit_m1_5": _repvit(64, _M1),
    "fastvit_s12": fastvit((2, 2, 6, 2), attention=False),
    "fastvit_sa12": fastvit((2, 2, 6, 2), attention=True),
    "fastvit_sa24": fastvit((4, 4, 12, 4), attention=True),
    "convnext_tiny": convnext((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": convnext((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": convnext((3, 3, 27, 3), (128, 256, 512, 1024)),
    "volo_d1": volo((4, 4, 8, 2), 192, 384, heads=6),
    "volo_d2": volo((6, 4, 10, 4), 256, 512, heads=8),
    "volo_d3": volo((8, 8, 16, 4), 256, 512, heads=8),
    "vit_tiny": vit(192),
    "vit_small": vit(384),
    "vit_base": vit(768),
    "swin_tiny": swin((2, 2, 6, 2), 96),
    "swin_small": swin((2, 2, 18, 2), 96),
    "swin_base": swin((2, 2, 18, 2), 128),
}
