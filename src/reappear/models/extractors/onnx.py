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
from reappear.store import find_weights

from .extractor import PREPROCESSING_KEY, given_preprocessing, parse_preprocessing, require_finite_vectors

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@settings
class OnnxSettings:
    """An embedding network in an ONNX file; one of `export-model` has its preprocessing in it."""

    kind: Literal["onnx"] = "onnx"
    weights: Annotated[
        Path, "ONNX file, or a name of `reappear weights list`: one input, batch 3 height width; one output, batch d"
    ]
    height: Annotated[ImageSide | None, "input height in pixels; the file's own, or 256"] = None
    width: Annotated[ImageSide | None, "input width in pixels; the file's own, or 128"] = None
    mean: Annotated[Mean | None, "subtracted after scaling, in the channels' order; the file's own, or ImageNet's"] = (
        None
    )
    std: Annotated[Std | None, "divided by, in the channels' order; the file's own, or ImageNet's"] = None
    scale: Annotated[
        Scale | None,
        "pixels are divided by this first: 255 for networks that take 0..1, 1 for 0..255; the file's own, or 255",
    ] = None
    channels: Annotated[Literal["rgb", "bgr"] | None, "order of the colour channels; the file's own, or rgb"] = None
    threads: Annotated[Processes, "processor threads; 0 = all", OPERATIONAL] = 0

    @property
    def files(self) -> dict[str, Path]:
        """What the vectors depend on besides the images."""
        return onnx_files(find_weights(self.weights))

    def build(self) -> "OnnxExtractor":
        """The extractor."""
        return OnnxExtractor(find_weights(self.weights), threads=self.threads, **given_preprocessing(self))


class OnnxExtractor:
    """Runs an ONNX embedding network on the processor.

    Args:
        weights: The file.
        threads: Processor threads; 0 = all.
        given: Fields of `Preprocessing` that count instead of those in the file's metadata, if any. The size counts
            where the file leaves it open.
    """

    def __init__(self, weights: Path, *, threads: int = 0, **given: Any) -> None:
        self._session = _session(weights, threads)
        metadata = self._session.get_modelmeta().custom_metadata_map.get(PREPROCESSING_KEY)
        own = Preprocessing() if metadata is None else parse_preprocessing(metadata, weights)
        preprocessing = replace(own, **given)
        taken, made = self._session.get_inputs(), self._session.get_outputs()
        shape, outputs = (taken[0].shape, made[0].shape) if taken and made else ([], [])
        if len(taken) != 1 or len(shape) != 4 or shape[1] not in (3, None) or not _is_embedding(outputs):
            raise InputError(
                f"{weights} is not an embedding network: it takes {shape} and gives {outputs}, not batch 3 height "
                "width and batch d; is it a detector? (those go to --detector)"
            )
        if taken[0].type not in _TYPES:
            raise InputError(f"{weights} takes {taken[0].type}, not one of {', '.join(_TYPES)}; export it again")
        self._input, self._output, self._weights = taken[0].name, made[0].name, weights
        self._type = _TYPES[taken[0].type]
        plain = not any(preprocessing.mean) and preprocessing.std == (1.0, 1.0, 1.0) and preprocessing.scale == 1
        if self._type is np.uint8 and not plain:
            raise InputError(
                f"{weights} takes pixels as whole numbers 0..255 ({taken[0].type}), which cannot be normalised; "
                "give --extractor.mean 0,0,0 --extractor.std 1,1,1 --extractor.scale 1"
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
