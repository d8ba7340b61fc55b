"""Embedders: images of people to feature vectors, with all that this needs in one folder."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reappear.core import InputError, SettingsError

from . import folder as model_folder
from .clips import Frames, clip_positions, dense_clips
from .necks import build_neck, neck_kind
from .preprocessing import Image, Preprocessing

Feature = Literal["before", "after"]


_BATCH = 256  # images in one forward pass
_PREPROCESSING = tuple(field.name for field in dataclasses.fields(Preprocessing))


class Embedder:
    """A backbone with its neck and its preprocessing: RGB images of any sizes in, feature vectors out.

        embedder = Embedder.load("work/models/round0")
        vectors = embedder(images)              # a sequence of RGB uint8 arrays (h w 3) → float32 (n d)

    Args:
        backbone: Normalised pixels (n 3 h w) to features (n d), from `create_model`.
        preprocessing: Image size and normalisation.
        neck: From `necks`; none if not given.
        feature: The vector is that "before" the neck or "after" it.
        config: What else is known: `architecture` and `arguments` for `create_model`, and the model's origin.
        name: For records and reports.
    """

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        *,
        neck: nn.Module | None = None,
        feature: Feature = "after",
        config: Mapping[str, Any] | None = None,
        name: str = "model",
    ) -> None:
        self.backbone = backbone
        self.neck = nn.Identity() if neck is None else neck
        self.preprocessing = preprocessing
        self.feature = feature
        self.config = dict(config or {})
        self.name = name

    @property
    def clip_frames(self) -> int:
        """Frames of the clips that the network is for; 0 = it is for images."""
        return int(getattr(self.backbone, "clip_frames", 0))

    @cached_property
    def width(self) -> int:
        """Length of the vectors; measured, as `num_features` is not the output width of every network."""
        height, width = self.preprocessing.height, self.preprocessing.width
        return int(self([np.zeros((height, width, 3), np.uint8)]).shape[1])

    def forward(self, pixels: Float[Tensor, "n *clip 3 h w"]) -> Float[Tensor, "n d"]:
        """The vectors of normalised pixels, differentiable and in the mode the modules are in."""
        features: Tensor = self.backbone(pixels)
        if self.feature == "after":
            features = self.neck(features)
        return features

    def __call__(self, images: Sequence[Image]) -> Float[np.ndarray, "n d"]:
        """The float32 vectors of RGB images, in evaluation mode and without gradients."""
        if not len(images):
            return np.zeros((0, self.width), np.float32)
        return self._run(
            torch.from_numpy(self.preprocessing(images[begin : begin + _BATCH]))
            for begin in range(0, len(images), _BATCH)
        )

    def tracklets(self, tracklets: Sequence[Frames], *, dense: bool = False) -> Float[np.ndarray, "n d"]:
        """One float32 vector of each tracklet, as of `__call__`; for networks with `clip_frames`.

        Args:
            tracklets: RGB images of each in their order, one or more; only those that are needed are asked for.
            dense: All frames, in clips whose vectors are averaged, instead of one clip of frames at equal distances.
        """
        frames, start = self.clip_frames, np.zeros(max(1, self.clip_frames))
        compat: Any = getattr(self.backbone, "compat", "fixed")
        clips = [
            (owner, positions)
            for owner, images in enumerate(tracklets)
            for positions in (
                dense_clips(len(images), frames) if dense else clip_positions(np.array([len(images)]), start, compat)
            )
        ]
        if not clips:
            return np.zeros((0, self.width), np.float32)
        at_once = max(1, _BATCH // len(start))

        def pixels(owner: int, positions: np.ndarray) -> np.ndarray:
            return self.preprocessing([tracklets[owner][position] for position in positions.tolist()])

        vectors = self._run(
            torch.from_numpy(np.stack([pixels(*clip) for clip in clips[begin : begin + at_once]]))
            for begin in range(0, len(clips), at_once)
        )
        owners = np.array([owner for owner, _ in clips])
        total = np.zeros((len(tracklets), vectors.shape[1]), np.float32)
        np.add.at(total, owners, vectors)
        return np.asarray(total / np.bincount(owners)[:, None], np.float32)

    def correlations(self, images: Sequence[Image]) -> Float[np.ndarray, "t rows columns"]:
        """How much each place of each image of one tracklet agrees with the whole, in (0, 1); for GRL.

        See `models.grl.CorrelationEstimation`.
        """
        backbone: Any = self.backbone
        pixels = torch.from_numpy(self.preprocessing(images))[None]
        return self._run([pixels], lambda clip: backbone.correlations(clip)[0])

    def _run(
        self, batches: Iterable[Tensor], call: Callable[[Tensor], Tensor] | None = None
    ) -> Float[np.ndarray, "n *d"]:
        """Vectors of batches of pixels, or what `call` makes of them, in evaluation mode and without gradients."""
        device = next(self.backbone.parameters()).device
        modules = (self.backbone, self.neck)
        modes = [module.training for module in modules]
        for module in modules:
            module.eval()
        try:
            with torch.no_grad():
                parts = [(call or self.forward)(pixels.to(device)) for pixels in batches]
        finally:
            for module, training in zip(modules, modes, strict=True):
                module.train(training)
        return np.asarray(torch.cat(parts).float().cpu().numpy())

    def to(self, device: torch.device | str) -> "Embedder":
        """Moves the modules to a device."""
        self.backbone.to(device)
        self.neck.to(device)
        return self

    def save(self, folder: str | Path, *, card: str = "", **config: Any) -> None:
        """Writes `model.safetensors`, `config.json` and `README.md`.

        Without a neck, tensors have the backbone's own names; with one, the prefixes `backbone.` and `neck.`.

        Args:
            folder: Made if missing.
            card: Text of README.md.
            config: More for config.json; `architecture` and `arguments` must be here or in `self.config`.

        Raises:
            InputError: Architecture or arguments are not known.
            TrainingError: A weight is NaN or infinite; nothing is written.
        """
        config = self.config | config
        lacking = [name for name in ("architecture", "arguments") if name not in config]
        if lacking:
            raise InputError(f"the configuration of a model needs {', '.join(lacking)}")
        config |= dataclasses.asdict(self.preprocessing)
        config |= {"neck": neck_kind(self.neck), "feature": self.feature, "features": self.backbone.num_features}
        state = self.backbone.state_dict()
        if config["neck"] != "none":
            parts = {"backbone": state, "neck": self.neck.state_dict()}
            state = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        model_folder.write(Path(folder), state, config, card)

    @classmethod
    def load(cls, folder: str | Path) -> "Embedder":
        """Reads what `save` wrote, on the CPU and in evaluation mode.

        Where config.json does not say, `Preprocessing` has its defaults and there is no neck.

        Raises:
            InputError: The folder holds no model, or a damaged one.
        """
        folder = Path(folder)
        config = model_folder.read_config(folder)
        try:
            preprocessing = _preprocessing(config)
        except SettingsError as error:
            raise InputError(f"{folder / 'config.json'}: {error}") from error
        backbone = model_folder.read_backbone(folder, config)
        features: Any = backbone.num_features
        neck = build_neck(config["neck"], features)
        model_folder.read_neck(folder, neck)
        return cls(
            backbone.eval(),
            preprocessing,
            neck=neck.eval(),
            feature=config["feature"],
            config=config,
            name=folder.name,
        )


def save_model(folder: Path, model: nn.Module, config: Mapping[str, Any], *, card: str) -> None:
    """Writes a backbone without a neck; see `Embedder.save`.

    Args:
        folder: Made if missing.
        model: From `create_model`.
        config: `architecture` and `arguments` for `create_model`, `height`, `width`, `mean` and `std` of its
            preprocessing, and whatever else is known of it.
        card: Text of README.md.

    Raises:
        InputError: The configuration lacks one of these.
        TrainingError: A weight is NaN or infinite; nothing is written.
    """
    lacking = [name for name in model_folder.NEEDED if name not in config]
    if lacking:
        raise InputError(f"the configuration of a model needs {', '.join(lacking)}")
    Embedder(model, _preprocessing(config), config=config).save(folder, card=card)


def load_model(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The backbone of a model folder, in evaluation mode and without its neck, and its `config.json`.

    Raises:
        InputError: The folder holds no model, or a damaged one.
    """
    embedder = Embedder.load(folder)
    return embedder.backbone, embedder.config


def _preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing(**{name: config[name] for name in _PREPROCESSING if name in config})
