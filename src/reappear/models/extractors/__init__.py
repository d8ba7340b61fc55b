"""Images of people to vectors. A new extractor is one file, named here; networks are imported when one is built."""

from pathlib import Path

from reappear.core import InputError
from reappear.store import known_weights

from .color import ColorExtractor, ColorSettings
from .extractor import Extractor, TrackletExtractor
from .onnx import OnnxExtractor, OnnxSettings
from .openvino import OpenVinoExtractor, OpenVinoSettings
from .timm import ModelSettings

ExtractorSettings = ColorSettings | ModelSettings | OnnxSettings | OpenVinoSettings

__all__ = [
    "ColorExtractor",
    "ColorSettings",
    "Extractor",
    "ExtractorSettings",
    "ModelSettings",
    "OnnxExtractor",
    "OnnxSettings",
    "OpenVinoExtractor",
    "OpenVinoSettings",
    "TrackletExtractor",
    "extractor_settings_for",
    "tracklet_extractor",
]


def tracklet_extractor(settings: ExtractorSettings) -> TrackletExtractor | None:
    """The extractor if it makes one vector of the images of a tracklet, else None, without building it."""
    if not isinstance(settings, ModelSettings) or not settings.takes_clips:
        return None
    extractor = settings.build()
    return extractor if isinstance(extractor, TrackletExtractor) else None


def extractor_settings_for(text: str) -> ExtractorSettings:
    """The extractor that a person means by one word.

    It is "color", a file of weights, the name of weights in the cache, a model folder, or a timm name.

    Raises:
        InputError: It looks like a path, and there is nothing; or the weights of this name are not in the cache.
    """
    path = Path(text)
    if text == "color":
        return ColorSettings()
    if not path.exists() and (weights := known_weights(text)) is not None:
        if weights.suffix not in (".onnx", ".xml"):
            raise InputError(
                f"{text}: {weights.name} holds weights without a network; give --extractor model, --extractor.name and "
                f"--extractor.weights {text}"
            )
        return OnnxSettings(weights=path) if weights.suffix == ".onnx" else OpenVinoSettings(weights=path)
    if path.suffix in (".onnx", ".xml"):
        if not path.is_file():
            raise InputError(f"{path} does not exist; check the path of the weights")
        return OnnxSettings(weights=path) if path.suffix == ".onnx" else OpenVinoSettings(weights=path)
    if path.is_dir():
        if not (path / "config.json").is_file() or not (path / "model.safetensors").is_file():
            raise InputError(f"{path} is not a model folder: it needs model.safetensors and config.json")
        return ModelSettings(name=text)
    if "/" in text and not text.startswith("hf-hub:"):
        raise InputError(
            f"{path} does not exist; an extractor is color, a .onnx or .xml file, a model folder or a name"
        )
    return ModelSettings(name=text)
