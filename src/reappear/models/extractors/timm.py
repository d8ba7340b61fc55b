"""Any backbone of timm, or one that reappear trained."""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from reappear.core import ImageSide, Only, Seed, SettingsError, read_json_object, settings
from reappear.models.preprocessing import Mean, Preprocessing, Std
from reappear.store import find_weights

from .extractor import Extractor, require_finite_vectors


@settings
class ModelSettings:
    """A model: a folder that reappear wrote, or any timm name. Sizes not given are the folder's own."""

    kind: Literal["model"] = "model"
    name: Annotated[str, "a model folder (model.safetensors, config.json), or a timm model name"]
    weights: Annotated[Path | None, "checkpoint for a timm name; random weights if not given"] = None
    height: Annotated[ImageSide | None, "image height in pixels; the folder's own, or 256"] = None
    width: Annotated[ImageSide | None, "image width in pixels; the folder's own, or 128"] = None
    mean: Annotated[Mean | None, "of pixels in 0..1; the folder's own, or ImageNet's"] = None
    std: Annotated[Std | None, "of pixels in 0..1; the folder's own, or ImageNet's"] = None
    seed: Annotated[Seed, "of the random weights, where there are no others", Only("weights", None)] = 0

    @property
    def files(self) -> dict[str, Path]:
        """What the vectors depend on besides the images."""
        folder = Path(self.name)
        if folder.is_dir():
            return {name: folder / name for name in ("config.json", "model.safetensors")}
        if self.weights is None:
            return {}
        weights = find_weights(self.weights)
        return {"weights": weights / "model.safetensors" if weights.is_dir() else weights}

    @property
    def takes_clips(self) -> bool:
        """Whether it is a folder of a model that makes one vector of the images of a tracklet."""
        config = Path(self.name) / "config.json"
        return config.is_file() and read_json_object(config).get("architecture") == "grl"

    def build(self) -> Extractor:
        """The embedder, on a GPU where there is one.

        Raises:
            InputError: The model cannot be read, or its vectors are not finite.
            SettingsError: Weights are given for a model folder.
        """
        import torch

        from reappear.models import Embedder, create_model

        if Path(self.name).is_dir():
            if self.weights is not None:
                raise SettingsError(
                    f"weights: {self.name} is a model folder and brings its own; leave out one of the two"
                )
            embedder = Embedder.load(self.name)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(zlib.crc32(f"{self.seed} {self.name}".encode()))
                backbone = create_model(
                    self.name, pretrained=None if self.weights is None else find_weights(self.weights)
                )
            embedder = Embedder(backbone, Preprocessing(), name=self.name)
        given: dict[str, Any] = {key: getattr(self, key) for key in ("height", "width", "mean", "std")}
        changes = {key: value for key, value in given.items() if value is not None}
        embedder.preprocessing = replace(embedder.preprocessing, **changes)
        embedder.to("cuda" if torch.cuda.is_available() else "cpu")
        require_finite_vectors(embedder, self.name)
        return embedder
