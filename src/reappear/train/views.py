"""Multi-crop views of people (DINO's recipe with CION's person-shaped crops), on the CPU in uint8."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import Bool, Float, UInt8

from reappear.core import RISING, Fraction, Only, settings

Image = UInt8[np.ndarray, "_ _ 3"]
Range = tuple[float, float]
Share = Annotated[float, Interval(gt=0, le=1)]
Area = Annotated[tuple[Share, Share], RISING]
Ratio = Annotated[float, Interval(ge=0.01, le=100)]
Radius = Annotated[float, Interval(gt=0, le=100)]
ErasedArea = Annotated[float, Interval(gt=0, lt=1)]

_ATTEMPTS = 10  # of torchvision's RandomResizedCrop, before it takes the middle
_NUMBERS = 2 * _ATTEMPTS + 15  # random numbers that one view may use; a fixed count keeps views independent
COLOR_PARAMS = 18  # parameters of the colour augmentation of a view; see MultiCrop.cut
LUMA = np.array([0.299, 0.587, 0.114])
SAME_COLOURS = np.eye(3, 4)
ERASED = np.array([124, 116, 104], np.uint8)  # ImageNet's mean, which is 0 to a network
_ERASE_LOG_RATIO = math.log(3.3)
_TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_SOLARISE = np.array([value if value < 128 else 255 - value for value in range(256)], np.uint8)


@settings
class ViewSettings:
    """Views of each image. Defaults: CION's, which are DINO's with crops shaped like people."""

    local_views: Annotated[int, "small views per image, beside the two global ones", Interval(ge=0, le=100)] = 8
    global_scale: Annotated[Area, "area of a global view as a share of the crop"] = (0.8, 1.0)
    local_scale: Annotated[Area, "area of a local view as a share of the crop", Only("local_views")] = (0.05, 0.8)
    ratio: Annotated[tuple[Ratio, Ratio], "width over height of what a view is cut from", RISING] = (0.4, 0.6)
    flip: Annotated[Fraction, "probability of a mirrored view"] = 0.5
    jitter: Annotated[Fraction, "probability that colours are jittered"] = 0.8
    brightness: Annotated[Fraction, "brightness is multiplied by up to 1 ± this", Only("jitter")] = 0.4
    contrast: Annotated[Fraction, "contrast is multiplied by up to 1 ± this", Only("jitter")] = 0.4
    saturation: Annotated[Fraction, "saturation is multiplied by up to 1 ± this", Only("jitter")] = 0.2
    hue: Annotated[
        float, "hue turns by up to ± this share of the colour circle", Interval(ge=0, le=0.5), Only("jitter")
    ] = 0.1
    cast: Annotated[
        Fraction, "beyond the paper: each channel is multiplied by 1 ± this, as cameras differ; 0 = not"
    ] = 0.0
    gray: Annotated[Fraction, "probability of a view without colour"] = 0.2
    blur: Annotated[
        tuple[Fraction, Fraction, Fraction],
        "probability of blur in the first and second global view and in local views",
    ] = (1.0, 0.1, 0.5)
    blur_radius: Annotated[
        tuple[Radius, Radius], "standard deviation of the blur in pixels of the view", RISING, Only("blur")
    ] = (
        0.1,
        2.0,
    )
    solarise: Annotated[Fraction, "probability that bright pixels of the second global view are inverted"] = 0.2
    erase: Annotated[Fraction, "probability that a box of a view is erased"] = 0.0
    erase_area: Annotated[
        tuple[ErasedArea, ErasedArea], "area of that box as a share of the view", RISING, Only("erase")
    ] = (
        0.02,
        0.6,
    )

    def build(self, *, height: int, width: int, local_height: int, local_width: int) -> "MultiCrop":
        """The views at these sizes in pixels."""
        first, second, local = self.blur
        shapes = [
            View(height, width, self.global_scale, blur=first, solarise=0.0),
            View(height, width, self.global_scale, blur=second, solarise=self.solarise),
        ]
        shapes += [View(local_height, local_width, self.local_scale, blur=local, solarise=0.0)] * self.local_views
        return MultiCrop(shapes, self)

    def build_whole(self, *, height: int, width: int) -> "MultiCrop":
        """Two views of a whole image, such as a patch of a larger one: neither cropped nor erased."""
        plain = replace(self, local_views=0, erase=0.0)
        crop = plain.build(height=height, width=width, local_height=height, local_width=width)
        return MultiCrop(crop.views, plain, whole=True)


@dataclass(frozen=True)
class View:
    """One kind of view: its size in pixels, the share of the area that it shows, and its own probabilities."""

    height: int
    width: int
    scale: Range
    blur: float
    solarise: float


@dataclass(frozen=True)
class Cut:
    """The views of one image before their colours are augmented.

    Attributes:
        views: Cropped, resized and flipped.
        color_params: One row per view: the 3×4 colour matrix, whose last column is per unit of the view's mean luma;
            the blur's standard deviation, 0 for none; 1 to solarise; left, top, width and height of what is erased.
        boxes: Where each view was cut: left, top, right and bottom, as shares of the image's width and height.
        flipped: Whether each view is mirrored.
    """

    views: list[Image]
    color_params: Float[np.ndarray, "v params"]
    boxes: Float[np.ndarray, "v 4"]
    flipped: Bool[np.ndarray, " v"]


class MultiCrop:
    """Multi-crop augmentation: random resized crops, flip and colour augmentation.

    Where it departs from torchvision on PIL, for a sevenfold speed: brightness, contrast, saturation, hue and gray act
    in this fixed order as one 3×4 colour matrix, clipped once at the end; hue turns the YIQ plane; resizing is by area
    when shrinking and cubic when enlarging.

    Args:
        views: All views; those that the teacher sees come first.
        settings: Probabilities and strengths of the augmentation.
        whole: Whether views show the whole image, instead of a random crop.
    """

    def __init__(self, views: Sequence[View], settings: ViewSettings, *, whole: bool = False) -> None:
        self.views, self._whole = tuple(views), whole
        self._scale = np.array([view.scale for view in views])
        self._blur = np.array([view.blur for view in views])
        self._solarise = np.array([view.solarise for view in views])
        self._log_ratio = np.log(settings.ratio)
        self._ratio = settings.ratio
        self._flip, self._jitter, self._gray = settings.flip, settings.jitter, settings.gray
        self._strength = np.array([settings.brightness, settings.contrast, settings.saturation])
        self._hue, self._cast = settings.hue, settings.cast
        self._blur_radius = settings.blur_radius
        self._erase, self._erase_area = settings.erase, settings.erase_area

    def __call__(self, image: Image, random: np.random.Generator) -> list[Image]:
        """The views of one image, in order. Always draws the same number of random numbers."""
        return self.augment(self.cut(image, random))

    @staticmethod
    def augment(cut: Cut) -> list[Image]:
        """The views of one image with their colours augmented."""
        return [_augment_colors(view, params) for view, params in zip(cut.views, cut.color_params, strict=True)]

    def cut(self, image: Image, random: np.random.Generator) -> Cut:
        """The views of one image with the parameters of their deferred colour augmentation."""
        numbers = random.random((len(self.views), _NUMBERS))
        boxes = self._boxes(image.shape[0], image.shape[1], numbers[:, : 2 * _ATTEMPTS + 2])
        chances = numbers[:, 2 * _ATTEMPTS + 2 :]
        flipped = chances[:, 6] < self._flip
        color_params = np.zeros((len(self.views), COLOR_PARAMS))
        color_params[:, :12] = self._colours(chances[:, [0, 1, 2, 3, 4, 5, 10, 11, 12]]).reshape(-1, 12)
        low, high = self._blur_radius
        color_params[:, 12] = np.where(chances[:, 7] < self._blur, low + chances[:, 8] * (high - low), 0.0)
        color_params[:, 13] = chances[:, 9] < self._solarise
        if self._erase:
            color_params[:, 14:] = self._erased(random.random((len(self.views), 2 * _ATTEMPTS + 3)))
        views = []
        for k, view in enumerate(self.views):
            left, top, width, height = boxes[k]
            shown = _resize(image[top : top + height, left : left + width], view.height, view.width)
            views.append(cv2.flip(shown, 1) if flipped[k] else shown)
        left, top, width, height = np.array(boxes, float).T
        corners = np.stack([left, top, left + width, top + height], axis=1)
        return Cut(views, color_params, corners / np.tile(image.shape[1::-1], 2), flipped)

    def _erased(self, numbers: Float[np.ndarray, "v m"]) -> Float[np.ndarray, "v 4"]:
        """Left, top, width, height of each view's erased box: torchvision's RandomErasing."""
        height, width = (
            np.array([getattr(view, name) for view in self.views])[:, None] for name in ("height", "width")
        )
        low, high = self._erase_area
        area = height * width * (low + numbers[:, :_ATTEMPTS] * (high - low))
        ratio = np.exp(_ERASE_LOG_RATIO * (2 * numbers[:, _ATTEMPTS : 2 * _ATTEMPTS] - 1))
        h, w = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (h < height) & (w < width)
        rows, first = np.arange(len(h)), fits.argmax(axis=1)
        h, w = h[rows, first], w[rows, first]
        happens = fits.any(axis=1) & (numbers[:, -3] < self._erase)
        left, top = (
            np.floor(numbers[:, -2] * (width[:, 0] - w + 1)),
            np.floor(numbers[:, -1] * (height[:, 0] - h + 1)),
        )
        return np.where(happens[:, None], np.stack([left, top, w, h], axis=1), 0.0)

    def _boxes(self, height: int, width: int, numbers: Float[np.ndarray, "v m"]) -> list[list[int]]:
        """Left, top, width, height of each view's crop: torchvision's RandomResizedCrop."""
        if self._whole:
            return [[0, 0, width, height]] * len(self.views)
        low, high = self._scale[:, :1], self._scale[:, 1:]
        area = height * width * (low + numbers[:, :_ATTEMPTS] * (high - low))
        span = self._log_ratio[1] - self._log_ratio[0]
        ratio = np.exp(self._log_ratio[0] + numbers[:, _ATTEMPTS : 2 * _ATTEMPTS] * span)
        w = np.rint(np.sqrt(area * ratio)).astype(np.int64)
        h = np.rint(np.sqrt(area / ratio)).astype(np.int64)
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        rows, first = np.arange(len(w)), fits.argmax(axis=1)
        found = fits[rows, first]
        shape = min(max(width / height, self._ratio[0]), self._ratio[1])
        whole_w = max(1, min(width, round(height * shape)))
        whole_h = max(1, min(height, round(width / shape)))
        w, h = np.where(found, w[rows, first], whole_w), np.where(found, h[rows, first], whole_h)
        left = np.where(found, numbers[:, -2] * (width - w + 1), (width - w) / 2).astype(np.int64)
        top = np.where(found, numbers[:, -1] * (height - h + 1), (height - h) / 2).astype(np.int64)
        boxes: list[list[int]] = np.stack([left, top, w, h], axis=1).tolist()
        return boxes

    def _colours(self, numbers: Float[np.ndarray, "v 9"]) -> Float[np.ndarray, "v 3 4"]:
        """The colour matrix of each view.

        Saturation and hue leave gray as it is, so contrast's shift towards the mean passes through them unchanged.
        """
        on = numbers[:, 0] < self._jitter
        gray = numbers[:, 5] < self._gray
        factors = np.where(on[:, None], 1 + (2 * numbers[:, 1:4] - 1) * self._strength, 1.0)
        brightness, contrast, saturation = factors.T
        angle = np.where(on, (2 * numbers[:, 4] - 1) * self._hue * 2 * math.pi, 0.0)
        c, s = np.cos(angle), np.sin(angle)
        turn = np.zeros((len(numbers), 3, 3))
        turn[:, 0, 0] = 1
        turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = c, -s, s, c
        # In YIQ, saturation scales the colour plane and gray empties it.
        turn[:, 1:] *= np.where(gray, 0.0, saturation)[:, None, None]
        gains = np.where(on[:, None], 1 + (2 * numbers[:, 6:9] - 1) * self._cast, 1.0)[:, :, None]
        linear = gains * (contrast * brightness)[:, None, None] * (_FROM_YIQ @ turn @ _TO_YIQ)
        shift = gains * ((1 - contrast) * brightness)[:, None, None]
        matrices = np.concatenate([linear, shift], axis=2)
        matrices[~(on | gray)] = SAME_COLOURS  # to the last bit
        return np.asarray(matrices)


def _resize(image: Image, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """An image brought to a size: averaged where it shrinks, cubic where it grows."""
    shrinks = image.shape[0] * image.shape[1] > height * width
    shown = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(shown, np.uint8)


def _augment_colors(view: Image, params: Float[np.ndarray, " params"]) -> Image:
    matrix = params[:12].reshape(3, 4)
    if not np.array_equal(matrix, SAME_COLOURS):
        matrix[:, 3] *= float(np.dot(cv2.mean(view)[:3], LUMA))
        view = cv2.transform(view, matrix)
    if params[12]:
        view = cv2.GaussianBlur(view, (0, 0), float(params[12]))
    if params[13]:
        view = cv2.LUT(view, _SOLARISE)
    left, top, width, height = params[14:].astype(int).tolist()
    if width:
        view[top : top + height, left : left + width] = ERASED
    return view
