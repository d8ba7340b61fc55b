from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from torch import nn

from reappear.core import InputError, counted

from .layouts import as_in_timm, of_backbone, with_positions_of
from .read import read_tensors, require_finite

_CLASSIFIERS = ("fc.", "head.fc.", "classifier.", "head.weight", "head.bias")
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What of a checkpoint went where.

    Attributes:
        matched: Names of the model's tensors that were set.
        missing: Names of the model's tensors that the file lacks.
        unexpected: Names in the file that the model has no place for, or in another shape.
        ignored: Names in the file that belong to a head or a classifier, which a backbone has no place for by design.
        resized: Those of `matched` that were interpolated to the model's image size: position embeddings.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    ignored: tuple[str, ...]
    resized: tuple[str, ...]


def load_checkpoint(model: nn.Module, path: str | Path, *, allow: Sequence[str] = ()) -> LoadReport:
    """Sets the weights of a model from a file.

    Reads safetensors files, model folders, and PyTorch files (.pth, .pt, .bin) of plain tensors, also nested under
    "teacher", "student", "state_dict" or "model" (in this order) and with the prefixes module., backbone., encoder_q.
    and base. So it reads the public weights of CION (all 32), DINO, LUP and MoCo, TransReID and TransReID-SSL,
    FastReID, timm, and ours. Names that the first authors of a network gave are turned into timm's, and the position
    embedding of another image size is interpolated and reported.

    Args:
        model: Changed in place, or not at all when an error is raised.
        path: A file, or a folder that holds `model.safetensors`.
        allow: Shell patterns of names that may be missing, left over, or of another shape, such as
            `["patch_embed.*"]`; `["*"]` takes what fits.

    Raises:
        InputError: The file cannot be read without running code in it, does not fit, or has weights that are NaN or
            infinite.
    """
    path = Path(path)
    own = model.state_dict()
    read, heads = of_backbone(read_tensors(path))
    renamed = as_in_timm(read, model)
    named = with_positions_of(model, renamed)
    classifier = tuple(name for name in named if name not in own and name.startswith(_CLASSIFIERS))
    matched = [name for name, value in named.items() if name in own and own[name].shape == value.shape]
    wrong = {
        name: f"{name} {tuple(value.shape)} for {tuple(own[name].shape)}"
        for name, value in named.items()
        if name in own and own[name].shape != value.shape
    }
    left = [name for name in named if name not in own and name not in classifier]
    missing = [name for name in own if name not in named and not name.endswith(_COUNTER)]
    refused = [
        (len(names), what, [wrong.get(name, name) for name in names[:3]])
        for what, found in (("missing", missing), ("unexpected", [*left, *wrong]))
        if (names := [name for name in found if not any(fnmatchcase(name, pattern) for pattern in allow)])
    ]
    if refused or not matched:
        parts = [f"{n} {what} ({', '.join(names)}{', ...' if n > len(names) else ''})" for n, what, names in refused]
        raise InputError(
            f"{path} does not fit {type(model).__name__}: matched {len(matched)} of {counted(len(own), 'tensor')}"
            + "".join(f", {part}" for part in parts)
            + "; check the architecture and its arguments, or allow these names to differ"
        )
    require_finite({name: named[name] for name in matched}, path)
    model.load_state_dict({name: named[name] for name in matched}, strict=False)
    return LoadReport(
        matched=tuple(matched),
        missing=tuple(missing),
        unexpected=(*left, *wrong.values()),
        ignored=(*heads, *classifier),
        resized=tuple(name for name in matched if named[name].shape != renamed[name].shape),
    )
