"""Formats backbones for `reappear models`."""

from collections.abc import Sequence

from reappear.models.describe import Description

_HEAD = ("model", "features", "map", "parameters (M)", "GMACs", "Market-1501", "MSMT17")


def table(found: Sequence[Description]) -> str:
    """A table with one line per backbone."""
    rows = [_HEAD, *(_row(one) for one in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    height, width = found[0].height, found[0].width
    lines += [
        "",
        f"GMACs: billions of multiply-adds for one image of {height}×{width}; FLOPs are twice that.",
        "Market-1501, MSMT17: mAP / rank 1 after fine-tuning in the CION paper; not measured here.",
    ]
    return "\n".join(lines)


def card(one: Description) -> str:
    """All properties of one backbone."""
    facts = [
        ("features", f"{one.features}, from a map of {'×'.join(map(str, one.feature_map))}"),
        ("parameters", f"{one.parameters:,}"),
        ("cost", f"{one.gmacs:.2f} billion multiply-adds for an image of {one.height}×{one.width}"),
        ("made from", one.made_from),
        ("differs from timm in", one.differs),
        ("public weights", one.checkpoint),
        ("Market-1501", one.market1501 and f"mAP {one.market1501[0]}, rank 1 {one.market1501[1]} (paper, fine-tuned)"),
        ("MSMT17", one.msmt17 and f"mAP {one.msmt17[0]}, rank 1 {one.msmt17[1]} (paper, fine-tuned)"),
        ("recipe", one.checkpoint and f"recipes/pretrain/{one.name}.yaml"),
    ]
    return "\n".join([one.name, *(f"  {name:<22}{value}" for name, value in facts if value)])


def _row(one: Description) -> tuple[str, ...]:
    return (
        one.name,
        str(one.features),
        "×".join(map(str, one.feature_map)),
        f"{one.parameters / 1e6:.2f}",
        f"{one.gmacs:.2f}",
        *("" if scores is None else "{} / {}".format(*scores) for scores in (one.market1501, one.msmt17)),
    )
