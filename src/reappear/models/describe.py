"""Widths, parameters and cost of a backbone, without allocating its weights."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from reappear.core import SettingsError

from .maps import feature_map
from .registry import create_model
from .zoo import ZOO, Scores


@dataclass(frozen=True)
class Description:
    """A backbone at one image size.

    Attributes:
        name: For `create_model`.
        height: Of the images in pixels.
        width: Of the images in pixels.
        features: Width of the feature vector.
        feature_map: Channels, rows and columns of its map.
        parameters: Trained numbers, without a classifier.
        gmacs: Billions of multiply-adds of one forward pass of one image, in convolutions and matrix products, those
            of attention included. Papers call them FLOPs, of which they are two each.
        made_from: Of what; None if not of ReIDZoo, like all that follows.
        differs: What is not as in timm.
        checkpoint: Name of the public file of weights.
        market1501: mAP and rank 1 in percent that the paper prints for it, fine-tuned.
        msmt17: The same.
    """

    name: str
    height: int
    width: int
    features: int
    feature_map: tuple[int, int, int]
    parameters: int
    gmacs: float
    made_from: str | None = None
    differs: str | None = None
    checkpoint: str | None = None
    market1501: Scores | None = None
    msmt17: Scores | None = None


def describe_model(name: str, *, height: int = 256, width: int = 128) -> Description:
    """Measures a backbone on tensors without content, so that no size is too large.

    Raises:
        InputError: No such name, or a network without a map of features.
        SettingsError: It does not take images of this size.
    """
    with torch.device("meta"), torch.no_grad():
        model = create_model(name).eval()
        image = torch.zeros(1, 3, height, width)
        try:
            with FlopCounterMode(display=False) as counter:
                features = model(image).shape[1]
            channels, rows, columns = feature_map(model, image).shape[1:]
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SettingsError(
                f"{name} does not take images of {height}x{width} ({' '.join(str(error).split())[:120]})"
            ) from error
    row = ZOO.get(name)
    return Description(
        name=name,
        height=height,
        width=width,
        features=features,
        feature_map=(channels, rows, columns),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=counter.get_total_flops() / 2e9,
        made_from=row.base if row else None,
        differs=row.family.differs if row else None,
        checkpoint=f"{row.checkpoint}.pth" if row else None,
        market1501=row.market1501 if row else None,
        msmt17=row.msmt17 if row else None,
    )
