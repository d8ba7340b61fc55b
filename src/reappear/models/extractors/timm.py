"""Any backbone of timm, or one that reappear trained."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

from reappear.core import ImageSide, Seed, SettingsError, settings

from .extractor import Image, Mean, Std, normalised, require_finite_vectors, resized

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@settings
class ModelSettings:
    """A backbone: a model folder that reappear wrote, or any timm name. Sizes not given are the folder's own."""

    kind: Literal["model"] = "model"
    name: Annotated[str, "a model folder (model.safetensors, config.json), or a timm model name"]
    weights: Annotated[Path | None, "checkpoint for a timm name; random weights if not given"] = None
    height: Annotated[ImageSide | None, "image height in pixels; the folder's own, or 256"] = None
    width: Annotated[ImageSide | None, "image width in pixels; the folder's own, or 128"] = None
    mean: Annotated[Mean | None, "of pixels in 0..1; the folder's own, or ImageNet's"] = None
    std: Annotated[Std | None, "of pixels in 0..1; the folder's own, or ImageNet's"] = None
    seed: Annotated[Seed, "of the random weights, where there are no others"] = 0

    @property
    def files(self) -> dict[str, Path]:
        """What the vectors depend on besides the images."""
        folder = Path(self.name)
        if folder.is_dir():
            return {name: folder / name for name in ("config.json", "model.safetensors")}
        if self.weights is None:
            return {}
        return {"weights": self.weights / "model.safetensors" if self.weights.is_dir() else self.weights}

    def build(self) -> "ModelExtractor":
        """The extractor."""
        return ModelExtractor(
            self.name,
            weights=self.weights,
            height=self.height,
            width=self.width,
            mean=self.mean,
            std=self.std,
            seed=self.seed,
        )


class ModelExtractor:
    """Runs a backbone, on a GPU where there is one.

    Args:
        name: A model folder, or a timm model name.
        weights: Checkpoint for a timm name.
        height: Image height in pixels.
        width: Image width in pixels.
        mean: Per channel, of pixels in 0..1.
        std: Per channel, of pixels in 0..1.
        seed: Of the random weights of a name without a checkpoint.
    """

    def __init__(
        self,
        name: str,
        *,
        weights: Path | None = None,
        height: int | None = None,
        width: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        seed: int = 0,
    ) -> None:
        import torch

        from reappear.models import create_model, load_model

        folder = Path(name)
        if folder.is_dir():
            if weights is not None:
                raise SettingsError(f"weights: {name} is a model folder and brings its own; leave out one of the two")
            model, config = load_model(folder)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(zlib.crc32(f"{seed} {name}".encode()))
                model, config = create_model(name, pretrained=weights), {}
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().to(self._device)
        self._size = (height or config.get("height", 256), width or config.get("width", 128))
        self._mean = mean or tuple(config.get("mean", _MEAN))
        self._std = std or tuple(config.get("std", _STD))
        self.name = folder.name if config else name
        # Measured: num_features is not the output width of every network.
        self.width = int(self._features(np.zeros((1, 3, *self._size), np.float32)).shape[1])
        require_finite_vectors(self, folder if config else name)

    def __call__(self, images: Sequence[Image]) -> Float[np.ndarray, "n d"]:
        """See `Extractor`."""
        if not images:
            return np.zeros((0, self.width), np.float32)
        small = resized(images, *self._size)
        return self._features(normalised(small, mean=self._mean, std=self._std, scale=255.0, channels="rgb"))

    def _features(self, pixels: Float[np.ndarray, "n 3 h w"]) -> Float[np.ndarray, "n d"]:
        import torch

        with torch.inference_mode():
            features = self._model(torch.from_numpy(pixels).to(self._device))
        return np.asarray(features.float().cpu().numpy())
