"""Any embedding network in an ONNX file, through onnxruntime."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

from reappear.core import (
    OPERATIONAL,
    ImageSide,
    InputError,
    Processes,
    onnx_files,
    parser_errors,
    require_regular_file,
    settings,
)
from reappear.models.preprocessing import Image, Mean, Preprocessing, Scale, Std

from .extractor import require_finite_vectors

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@settings
class OnnxSettings:
    """An embedding network in an ONNX file. The defaults suit torchreid's OSNet and most others."""

    kind: Literal["onnx"] = "onnx"
    weights: Annotated[Path, "ONNX file: one input, batch 3 height width; one output, batch d"]
    height: Annotated[ImageSide, "input height in pixels; used where the file leaves it open"] = 256
    width: Annotated[ImageSide, "input width in pixels; used where the file leaves it open"] = 128
    mean: Annotated[Mean, "subtracted after scaling, in the channels' order"] = (
        0.485,
        0.456,
        0.406,
    )
    std: Annotated[Std, "divided by, in the channels' order"] = (0.229, 0.224, 0.225)
    scale: Annotated[Scale, "pixels are divided by this first: 255 for networks that take 0..1, 1 for 0..255"] = 255.0
    channels: Annotated[Literal["rgb", "bgr"], "order of the colour channels"] = "rgb"
    threads: Annotated[Processes, "processor threads; 0 = all", OPERATIONAL] = 0

    @property
    def files(self) -> dict[str, Path]:
        """What the vectors depend on besides the images."""
        return onnx_files(self.weights)

    def build(self) -> "OnnxExtractor":
        """The extractor."""
        preprocessing = Preprocessing(
            height=self.height,
            width=self.width,
            mean=self.mean,
            std=self.std,
            scale=self.scale,
            channels=self.channels,
        )
        return OnnxExtractor(self.weights, preprocessing, threads=self.threads)


class OnnxExtractor:
    """Runs an ONNX embedding network on the processor.

    Args:
        weights: The file.
        preprocessing: Its size counts where the file leaves it open.
        threads: Processor threads; 0 = all.
    """

    def __init__(self, weights: Path, preprocessing: Preprocessing, *, threads: int = 0) -> None:
        self._session = _session(weights, threads)
        self._weights = weights
        given, made = self._session.get_inputs(), self._session.get_outputs()
        shape, outputs = (given[0].shape, made[0].shape) if given and made else ([], [])
        if len(given) != 1 or len(shape) != 4 or shape[1] not in (3, None) or not _is_embedding(outputs):
            raise InputError(
                f"{weights} is not an embedding network: it takes {shape} and gives {outputs}, not batch 3 height "
                "width and batch d; is it a detector? (those go to --detector)"
            )
        if given[0].type not in _TYPES:
            raise InputError(f"{weights} takes {given[0].type}, not one of {', '.join(_TYPES)}; export it again")
        self._input, self._output, self._weights = given[0].name, made[0].name, weights
        self._type = _TYPES[given[0].type]
        plain = not any(preprocessing.mean) and preprocessing.std == (1.0, 1.0, 1.0) and preprocessing.scale == 1
        if self._type is np.uint8 and not plain:
            raise InputError(
                f"{weights} takes pixels as whole numbers 0..255 ({given[0].type}), which cannot be normalised; "
                "set extractor.mean 0,0,0, extractor.std 1,1,1 and extractor.scale 1"
            )
        self._batch = shape[0] if isinstance(shape[0], int) else None
        self._preprocessing = replace(
            preprocessing,
            height=shape[2] if isinstance(shape[2], int) else preprocessing.height,
            width=shape[3] if isinstance(shape[3], int) else preprocessing.width,
        )
        self.name = weights.stem
        known = outputs[1]
        self.width = known if isinstance(known, int) else self([np.zeros((1, 1, 3), np.uint8)]).shape[1]
        require_finite_vectors(self, weights)

    def __call__(self, images: Sequence[Image]) -> Float[np.ndarray, "n d"]:
        """See `Extractor`."""
        if not images:
            return np.zeros((0, self.width), np.float32)
        return self._run(self._preprocessing(images))

    def _run(self, pixels: Float[np.ndarray, "n 3 h w"]) -> Float[np.ndarray, "n d"]:
        batch = self._batch or len(pixels)
        out = []
        for first in range(0, len(pixels), batch):
            piece = pixels[first : first + batch]
            lacking = batch - len(piece)  # a file of fixed batch size is fed whole batches
            whole = np.concatenate([piece, np.zeros((lacking, *piece.shape[1:]), piece.dtype)]) if lacking else piece
            if self._type is np.uint8:
                whole = np.clip(np.rint(whole), 0, 255)
            with parser_errors(self._weights, "an embedding network", "try it with onnxruntime alone"):
                made = self._session.run([self._output], {self._input: whole.astype(self._type)})[0]
                out.append(np.asarray(made, np.float32).reshape(batch, -1)[: len(piece)])
        return np.concatenate(out)


def _is_embedding(shape: Sequence[int | str | None]) -> bool:
    """Batch d, or batch d 1 1."""
    return len(shape) == 2 or (len(shape) == 4 and list(shape[2:]) == [1, 1])


def _session(path: Path, threads: int) -> Any:
    require_regular_file(path)
    onnx_files(path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # onnxruntime prints what it stumbles over before it raises it.
    with parser_errors(path, "an ONNX model"), contextlib.redirect_stdout(io.StringIO()):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
