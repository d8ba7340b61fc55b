"""config.json and the model card of a trained model."""

from typing import Any

from reappear.core import counted
from reappear.methods.registry import spec_of
from reappear.methods.settings import MethodSettings
from reappear.models import Embedder
from reappear.train.settings import BaseTrainSettings, Keep

_VERBS = {"pretrain": "pre-trained", "finetune": "fine-tuned"}


def model_origin(
    settings: BaseTrainSettings, method: MethodSettings, source: dict[str, str], keep: Keep, steps: int
) -> dict[str, Any]:
    """What config.json says of the architecture and the training."""
    return {
        "architecture": settings.backbone,
        "arguments": settings.arguments,
        "exported": keep,
        "method": method.kind,
        **source,
        "steps": steps,
        "images_per_step": settings.images_per_step,
    }


def model_card(
    embedder: Embedder,
    settings: BaseTrainSettings,
    method: MethodSettings,
    origin: dict[str, Any],
    counts: dict[str, int | float],
    scores: dict[str, float],
) -> str:
    """README.md of a model.

    Args:
        embedder: The model.
        settings: Of the training.
        method: Its method.
        origin: What `model_origin` returned.
        counts: Of the record: images or crops, identities, steps.
        scores: What it is → validation mAP.
    """
    spec, preprocessing = spec_of(method), embedder.preprocessing
    trained = next(counted(int(counts[f"{of}s"]), of) for of in ("crop", "image") if f"{of}s" in counts)
    source = next(f"{key}: {origin[key]}" for key in ("labels", "data") if key in origin)
    lines = [
        f"# {origin['architecture']}, {_VERBS[spec.command]} by {spec.title}",
        "",
        f"- Input: RGB, {preprocessing.height}×{preprocessing.width}, mean {preprocessing.mean}, "
        f"std {preprocessing.std} of pixels in [0, 1]",
        f"- Trained on {trained} of {counted(int(counts['identities']), 'identity')} ({source}), "
        f"{counted(origin['steps'], 'step')} of {counted(settings.images_per_step, 'image')}",
        f"- Exported: the {origin['exported']}; seed {settings.seed}",
        *(f"- Validation mAP {name}: {score:.3f}" for name, score in scores.items()),
        "",
        "```python",
        "from reappear.models import Embedder",
        "",
        'embedder = Embedder.load("path/of/this/folder")',
        "vectors = embedder(images)  # RGB uint8 arrays (h w 3) of any sizes",
        "```",
        "",
    ]
    return "\n".join(lines)
