"""Any embedding network in OpenVINO's format (.xml with its .bin), such as those of the Open Model Zoo."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

from reappear.core import ImageSide, InputError, MissingExtra, parser_errors, require_regular_file, settings
from reappear.models.preprocessing import Image, Mean, Preprocessing, Scale, Std
from reappear.store import find_weights

from .extractor import PREPROCESSING_KEY, given_preprocessing, parse_preprocessing, require_finite_vectors

_KIND = "a network in OpenVINO's format"
_OPEN_MODEL_ZOO = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1.0, channels="bgr")


@settings
class OpenVinoSettings:
    """An embedding network in OpenVINO's format; one of `export-model` has its preprocessing in it.

    The defaults suit the Open Model Zoo: BGR, 0..255.
    """

    kind: Literal["openvino"] = "openvino"
    weights: Annotated[Path, ".xml file of the network, its .bin beside it; or a name of `reappear weights list`"]
    height: Annotated[ImageSide | None, "input height in pixels; the file's own, or 256"] = None
    width: Annotated[ImageSide | None, "input width in pixels; the file's own, or 128"] = None
    mean: Annotated[Mean | None, "subtracted after scaling, in the channels' order; the file's own, or 0"] = None
    std: Annotated[Std | None, "divided by, in the channels' order; the file's own, or 1"] = None
    scale: Annotated[
        Scale | None,
        "pixels are divided by this first: 255 for networks that take 0..1, 1 for 0..255; the file's own, or 1",
    ] = None
    channels: Annotated[Literal["rgb", "bgr"] | None, "order of the colour channels; the file's own, or bgr"] = None

    @property
    def files(self) -> dict[str, Path]:
        """What the vectors depend on besides the images."""
        weights = find_weights(self.weights)
        return {"weights": weights, "bin": weights.with_suffix(".bin")}

    def build(self) -> "OpenVinoExtractor":
        """The extractor."""
        return OpenVinoExtractor(find_weights(self.weights), **given_preprocessing(self))


class OpenVinoExtractor:
    """Runs an OpenVINO embedding network on the processor.

    Args:
        weights: The .xml file.
        given: See `OnnxExtractor`.
    """

    def __init__(self, weights: Path, **given: Any) -> None:
        core = _core()
        for path in (weights, weights.with_suffix(".bin")):
            if not path.exists():
                raise InputError(f"{path} does not exist; a network in OpenVINO's format is a .xml and a .bin")
            require_regular_file(path)
        with weights.open("rb") as file:
            if not file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):  # else OpenVINO tries other formats
                raise InputError(f"{weights} is not XML, as a network in OpenVINO's format is; check the path")
        self._weights = weights
        with parser_errors(weights, _KIND):
            model = core.read_model(str(weights))
            shape = model.inputs[0].get_partial_shape()
            outputs = model.outputs[0].get_partial_shape()
        if len(model.inputs) != 1 or len(shape) != 4 or shape[1] != 3 or len(outputs) not in (2, 4):
            raise InputError(f"{weights} is not an embedding network: it takes {shape} and gives {outputs}")
        preprocessing = replace(self._own_preprocessing(model, weights), **given)
        self._preprocessing = replace(
            preprocessing,
            height=preprocessing.height if shape[2].is_dynamic else shape[2].get_length(),
            width=preprocessing.width if shape[3].is_dynamic else shape[3].get_length(),
        )
        with parser_errors(weights, _KIND):
            # One image at a time: files of a fixed batch are the rule, and the result then depends on no neighbour.
            model.reshape([1, 3, self._preprocessing.height, self._preprocessing.width])
            # Several at a time, each on one core: 1.3 times as fast as one on all, and the same on every machine.
            network = core.compile_model(
                model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
            )
            self.width = int(np.prod(network.outputs[0].shape))
            number = network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            self._requests = [network.create_infer_request() for _ in range(number)]
        self.name = weights.stem
        require_finite_vectors(self, weights)

    @staticmethod
    def _own_preprocessing(model: Any, weights: Path) -> Preprocessing:
        with parser_errors(weights, _KIND):
            if not model.has_rt_info([PREPROCESSING_KEY]):
                return _OPEN_MODEL_ZOO
            text = str(model.get_rt_info([PREPROCESSING_KEY]).value)
        return parse_preprocessing(text, weights)

    def __call__(self, images: Sequence[Image]) -> Float[np.ndarray, "n d"]:
        """See `Extractor`."""
        out = np.zeros((len(images), self.width), np.float32)
        pixels = self._preprocessing(images)
        # In turn, and without a callback: OpenVINO's threads would wait for Python's lock to drop it, and whoever
        # deletes the network meanwhile holds that lock and waits for the threads.
        with parser_errors(self._weights, "an embedding network", "try it with OpenVINO alone"):
            for place in range(len(images) + len(self._requests)):
                request, done = self._requests[place % len(self._requests)], place - len(self._requests)
                if done >= 0:
                    request.wait()
                    out[done] = request.get_output_tensor(0).data.reshape(-1)
                if place < len(images):
                    request.start_async(pixels[place : place + 1])
        return out


def _core() -> Any:
    """OpenVINO."""
    try:
        from openvino import Core
    except ModuleNotFoundError as error:
        raise MissingExtra("networks in OpenVINO's format need a package: pip install 'reappear[openvino]'") from error
    return Core()
