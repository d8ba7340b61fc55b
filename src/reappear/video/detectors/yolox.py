"""YOLOX (Ge et al. 2021, arXiv:2107.08430) from an ONNX file, through onnxruntime."""

from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from reappear.core import (
    OPERATIONAL,
    Fraction,
    InputError,
    Processes,
    onnx_files,
    parser_errors,
    require_regular_file,
    settings,
)
from reappear.store import find_weights
from reappear.video.decode import Footage

from .detector import FrameDetections

_STRIDES = (8, 16, 32)
_PERSON = 0  # the first of COCO's 80 classes
_GREY = 114  # the padding value of YOLOX in training
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@settings
class YoloxSettings:
    """A YOLOX network in an ONNX file."""

    kind: Literal["yolox"] = "yolox"
    weights: Annotated[
        Path,
        "ONNX file of a YOLOX network trained on COCO, exported without decoding in the network; or a name of "
        "`reappear weights list`",
    ]
    score: Annotated[Fraction, "least objectness times class probability of a person"] = 0.3
    nms: Annotated[Fraction, "of two boxes whose IoU is above this, the worse is dropped"] = 0.45
    threads: Annotated[
        Processes,
        "CPU threads of the network, per video processed at the same time; 0 = the processors are shared out among "
        "these. The result is the same",
        OPERATIONAL,
    ] = 0

    def files(self, video: Path) -> dict[str, Path]:
        """What the result depends on besides the video."""
        return onnx_files(find_weights(self.weights))

    def build(self, footage: Footage) -> "YoloxDetector":
        """A detector for one video."""
        return self.build_network()

    def build_network(self) -> "YoloxDetector":
        """The detector, which is the same for every video.

        Raises:
            InputError: The file is missing, or is no YOLOX network.
        """
        return YoloxDetector(find_weights(self.weights), score=self.score, nms=self.nms, threads=self.threads or 1)


class YoloxDetector:
    """Detects people with a YOLOX network.

    Args:
        weights: The ONNX file: input 1 3 h w (float32, float16 or uint8), BGR in 0..255, letterboxed to the top left;
            output 1 n 85, of which each row is centre x and y (in cells, from the cell's corner), log width and height
            (in cells), objectness and 80 class probabilities, over the grids of strides 8, 16 and 32.
        score: Least objectness times class probability of a person.
        nms: Of two boxes whose IoU is above this, the worse is dropped.
        threads: Processor threads of the network.
    """

    def __init__(self, weights: Path, *, score: float = 0.3, nms: float = 0.45, threads: int = 1) -> None:
        self._session = open_onnx(weights, threads=threads)
        self._score, self._nms = score, nms
        inputs, results = self._session.get_inputs(), self._session.get_outputs()
        if not inputs or inputs[0].type not in _TYPES:
            raise InputError(
                f"{weights} has inputs {', '.join(i.type for i in inputs) or 'none'}; a YOLOX network takes one of "
                f"{', '.join(_TYPES)}: export it again"
            )
        self._input, self._type, self._weights = inputs[0].name, _TYPES[inputs[0].type], weights
        shape, outputs = inputs[0].shape, results[0].shape
        right = len(inputs) == 1 and len(results) == 1 and len(shape) == 4 and shape[1] == 3 and len(outputs) == 3
        if not right or not all(isinstance(side, int) and side % 32 == 0 for side in shape[2:]):
            raise InputError(
                f"{weights} is not a YOLOX network: it takes {shape} and gives {outputs}, not 1 3 h w and 1 n 85; "
                "is it an embedding network? (those go to --extractor)"
            )
        self._size = (shape[2], shape[3])
        self._corners, self._cells = _grid(*self._size)
        if not all(isinstance(side, int) for side in outputs[1:]):
            outputs = list(self._run(np.full((1, 3, *self._size), _GREY, self._type)).shape)
        if outputs[1:] != [len(self._cells), 85]:
            raise InputError(
                f"{weights} gives {outputs}, but a YOLOX network trained on COCO gives [1, {len(self._cells)}, 85]; "
                "export it without decoding and without NMS"
            )

    def detect(self, image: UInt8[np.ndarray, "h w 3"], number: int) -> FrameDetections:
        """See `Detector.detect`."""
        scale = min(self._size[0] / image.shape[0], self._size[1] / image.shape[1])
        small = cv2.resize(
            image, (round(image.shape[1] * scale), round(image.shape[0] * scale)), interpolation=cv2.INTER_LINEAR
        )
        pixels = np.full((1, 3, *self._size), _GREY, self._type)
        pixels[0, :, : small.shape[0], : small.shape[1]] = small[..., ::-1].transpose(2, 0, 1)
        box, score = self._decode(self._run(pixels)[0])
        return FrameDetections(box / np.float32(scale), score)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self._session.run(None, {self._input: pixels})[0], np.float32)
        except Exception as error:  # onnxruntime's errors share no base class
            reason = str(error).splitlines()[0]
            raise InputError(f"{self._weights}: the network fails ({reason}); export it again") from error

    def _decode(self, raw: Float[np.ndarray, "n 85"]) -> tuple[Float[np.ndarray, "m 4"], Float[np.ndarray, " m"]]:
        score = raw[:, 4] * raw[:, 5 + _PERSON]
        likely = np.flatnonzero(score >= self._score)
        centre = (raw[likely, :2] + self._corners[likely]) * self._cells[likely]
        size = np.exp(raw[likely, 2:4]) * self._cells[likely]
        box = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
        flat = np.concatenate([box[:, :2], size], axis=1)
        kept = np.asarray(cv2.dnn.NMSBoxes(flat.tolist(), score[likely].tolist(), self._score, self._nms), np.int64)
        return box[kept.reshape(-1)], score[likely][kept.reshape(-1)]


def open_onnx(path: Path, *, threads: int) -> Any:
    """A session on the processor.

    Raises:
        InputError: The file is missing or is not an ONNX model.
    """
    require_regular_file(path)
    onnx_files(path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the processor
    options.log_severity_level = 3
    with parser_errors(path, "an ONNX model"):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _grid(height: int, width: int) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 1"]]:
    """Corner (x, y) of each cell in cells, and its side in pixels."""
    corners, cells = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        corners.append(np.stack([columns, rows], axis=2).reshape(-1, 2))
        cells.append(np.full((rows.size, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(cells).astype(np.float32)
