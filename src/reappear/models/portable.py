"""Model files for other programs: ONNX, OpenVINO, and the layout of roboflow's `trackers`."""

import contextlib
import copy
import dataclasses
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from reappear.core import InputError, MissingExtra
from reappear.store import atomic_write, write_text

from .embedder import Embedder
from .extractors.extractor import PREPROCESSING_KEY
from .preprocessing import Preprocessing
from .zoo import ZOO

INPUT, OUTPUT = "images", "embeddings"
_OPSET = 17  # the first with layer normalisation as one operator


class _Network(nn.Module):
    """A copy of the modules of an embedder as one, for images of its size alone."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(embedder.backbone).cpu()
        self.neck = copy.deepcopy(embedder.neck).cpu() if embedder.feature == "after" else nn.Identity()
        for module in self.backbone.modules():
            if isinstance(module, VisionTransformer):
                _resample_position_embedding(module, embedder.preprocessing)

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.neck(self.backbone(pixels))
        return features


def _resample_position_embedding(vit: Any, preprocessing: Preprocessing) -> None:
    """Does once what the transformer does for each batch of images of another size, and what ONNX cannot."""
    step = vit.patch_embed.patch_size
    grid = (preprocessing.height // step[0], preprocessing.width // step[1])
    if vit.pos_embed is None or grid == tuple(vit.patch_embed.grid_size):
        return
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    old = vit.patch_embed.grid_size
    resampled = resample_abs_pos_embed(vit.pos_embed.data, grid, old_size=old, num_prefix_tokens=prefix)
    vit.pos_embed = nn.Parameter(resampled)
    vit.patch_embed.grid_size = grid


def write_onnx(embedder: Embedder, path: Path) -> None:
    """Writes an embedder as ONNX: `images` (batch 3 height width), normalised, to `embeddings` (batch d), float32.

    The batch is free, height and width are those of the preprocessing, which is in the metadata as JSON.

    Raises:
        InputError: The network has an operation that ONNX lacks.
        MissingExtra: The package onnx is not installed.
    """
    preprocessing = embedder.preprocessing
    network = _Network(embedder).eval()
    pixels = torch.zeros(2, 3, preprocessing.height, preprocessing.width)
    # The tracer and the exporter warn of themselves, and print the graph where they fail.
    with atomic_write(path) as staging, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            import onnx

            torch.onnx.export(
                network,
                (pixels,),
                str(staging),
                dynamo=False,  # the other exporter needs one more package, onnxscript
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            )
        except ModuleNotFoundError as error:
            raise MissingExtra("export to ONNX needs a package: pip install 'reappear[onnx]'") from error
        except OSError:  # the disk
            raise
        except Exception as error:  # the exporter raises what it stumbles over
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"{embedder.name} ({embedder.config['architecture']}) cannot be exported to ONNX: "
                f"{type(error).__name__} {text}; load it in Python with Embedder.load, or train another backbone"
            ) from error
        model = onnx.load(staging)
        onnx.helper.set_model_props(model, {PREPROCESSING_KEY: _as_json(embedder)})
        onnx.save(model, staging)


def write_openvino(embedder: Embedder, onnx_file: Path, path: Path) -> None:
    """Converts what `write_onnx` wrote to OpenVINO's format: `path`, a .xml, and its .bin; weights stay float32.

    Raises:
        InputError: OpenVINO cannot convert it.
        MissingExtra: The package openvino is not installed.
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingExtra("export to OpenVINO needs a package: pip install 'reappear[openvino]'") from error
    try:
        model = openvino.convert_model(str(onnx_file))
    except OSError:  # the disk
        raise
    except Exception as error:  # the converter raises what it stumbles over
        raise InputError(
            f"{embedder.name} cannot be converted to OpenVINO: {' '.join(str(error).split())[:200]}; use --to onnx"
        ) from error
    model.set_rt_info(_as_json(embedder), [PREPROCESSING_KEY])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def write_trackers(embedder: Embedder, folder: Path) -> None:
    """Writes `reid_config.json` and `weights.safetensors`, as `ReIDModel.save_pretrained` of roboflow's `trackers`.

    Their layout names an architecture of timm and has no neck.

    Raises:
        InputError: The model is not one that timm builds by its name alone.
    """
    architecture = _timm_name(embedder)
    preprocessing = embedder.preprocessing
    config = {
        "architecture": architecture,
        "preprocessing": {
            "input_size": [preprocessing.height, preprocessing.width],
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "interpolation": "bilinear",  # theirs averages where it shrinks, as ours does
            "to_rgb": True,
            "normalize_embeddings": True,
        },
    }
    state = {name: value.detach().cpu().contiguous() for name, value in embedder.backbone.state_dict().items()}
    with atomic_write(folder / "weights.safetensors") as staging:
        staging.write_bytes(safetensors.torch.save(state))
    write_text(folder / "reid_config.json", json.dumps(config, indent=2) + "\n")


def _timm_name(embedder: Embedder) -> str:
    """The architecture as `timm:NAME`.

    Raises:
        InputError: timm's `create_model(NAME, num_classes=0)` is another network.
    """
    name, arguments = str(embedder.config["architecture"]), embedder.config["arguments"]
    row = ZOO.get(name)
    known = row.base if row else name.removeprefix("timm:")
    advice = "; use --to onnx, which takes any model"
    if embedder.feature == "after" and not isinstance(embedder.neck, nn.Identity):
        raise InputError(f"{embedder.name}: the layout of trackers has no neck, and this model has one{advice}")
    if (row and row.family.differs != "nothing") or known not in _timm_models() or arguments:
        raise InputError(
            f"{embedder.name}: the layout of trackers names a network of timm, and {name} with the arguments "
            f"{_text(arguments)} is another one{advice}"
        )
    return f"timm:{known}"


def _timm_models() -> set[str]:
    """Names that timm has by itself, without those that reappear registers there."""
    return {name for name in timm.list_models() if timm.models.model_entrypoint(name).__module__.startswith("timm.")}


def _text(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments)[:120]


def _as_json(embedder: Embedder) -> str:
    return json.dumps(dataclasses.asdict(embedder.preprocessing))
