"""config.json and the model card of a trained model."""

from typing import Any

from reappear.methods.registry import spec_of
from reappear.models.preprocessing import IMAGENET_MEAN as MEAN
from reappear.models.preprocessing import IMAGENET_STD as STD

from .settings import PretrainSettings


def model_origin(settings: PretrainSettings, labels: str, steps: int) -> dict[str, Any]:
    """What config.json says of the architecture and the training."""
    return {
        "architecture": settings.backbone,
        "arguments": settings.arguments,
        "exported": settings.keep,
        "method": settings.method.kind,
        "labels": labels,
        "steps": steps,
        "images_per_step": settings.images_per_step,
    }


def model_card(
    settings: PretrainSettings, labels: str, counts: dict[str, int | float], metrics: list[dict[str, int | float]]
) -> str:
    """README.md of a model."""
    validations = [row["validation_map"] for row in metrics if "validation_map" in row]
    lines = [
        f"# {settings.backbone}, pre-trained by {spec_of(settings.method).title}",
        "",
        f"- Input: RGB, {settings.height}×{settings.width}, mean {MEAN}, std {STD} of pixels in [0, 1]",
        f"- Trained on {counts['crops']:,} crops of {counts['identities']:,} identities (labels: {labels}), "
        f"{counts['steps']:,} steps of {settings.images_per_step} images",
        f"- Exported: the {settings.keep}; seed {settings.seed}",
        *([f"- Validation mAP at the end: {validations[-1]:.3f}"] if validations else []),
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
