"""The views of one image, ours against torchvision on PIL with the settings of the public code, and how both look.

    python benchmarks/views.py [--crops 256] [--repeats 5] [--picture docs/images/views.jpg] [--quick]

Two views of 256×128 and eight of 128×64 of each JPEG, decoding included, one thread, time of this process; the shortest
of some interleaved rounds. The crops are filmed from the synthetic world. Compared are, in one run:

- `torchvision`: PIL, a transform for each change, float and normalised at the end of each view;
- `cpu`: `MultiCrop`, uint8 to the end (the network normalises, on its own device);
- `cpu_normalised`: the same, and normalised here as well;
- `gpu_host`: what is left for the host when a GPU takes the colours: decoding, crop, flip;
- `device_on_cpu`: what the GPU does, measured on this CPU, for `--device cuda` on the GPU: `augment_colors`, per image.
"""

import argparse
import io
import json
import time
from collections.abc import Callable

import cv2
import measure
import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms

from reappear.core import generator
from reappear.synthetic import WorldSettings, generate_world, render_test_images
from reappear.train.batch import ViewBatch
from reappear.train.views import ViewSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CUTTER = ViewSettings().build(height=256, width=128, local_height=128, local_width=64)


def photographs(count: int) -> list[bytes]:
    """Crops of people, 100 to 400 pixels high, as JPEG."""
    world = generate_world(
        WorldSettings(
            people=2, test_people=max(4, count // 6), cameras=2, films=1, test_images=6, width=896, height=640
        )
    )
    images = [one.image for film in world.test_films for one in render_test_images(world, film)]
    if len(images) < count:
        raise SystemExit(f"the world has {len(images)} crops, not {count}; ask for fewer")
    chosen = np.linspace(0, len(images) - 1, count).astype(int)
    return [cv2.imencode(".jpg", images[i][..., ::-1])[1].tobytes() for i in chosen]


def public_views() -> list[transforms.Compose]:
    """Ten chains of transforms with the numbers of the public code (facts of the paper, own words)."""

    def chain(size: tuple[int, int], scale: tuple[float, float], blur: float, solarise: float) -> transforms.Compose:
        jitter = transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        steps = [
            transforms.RandomResizedCrop(
                size, scale=scale, ratio=(0.4, 0.6), interpolation=transforms.InterpolationMode.BICUBIC
            ),
            transforms.RandomHorizontalFlip(0.5),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([transforms.Lambda(_blurred)], p=blur),
            transforms.RandomApply([transforms.Lambda(ImageOps.solarize)], p=solarise),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
        return transforms.Compose(steps)

    large, small = (256, 128), (128, 64)
    both = [chain(large, (0.8, 1.0), 1.0, 0.0), chain(large, (0.8, 1.0), 0.1, 0.2)]
    return both + [chain(small, (0.05, 0.8), 0.5, 0.0)] * 8


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(float(torch.empty(()).uniform_(0.1, 2.0))))


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def torchvision(data: list[bytes]) -> None:
    chains = public_views()
    for jpeg in data:
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        _ = [chain(image) for chain in chains]


def cpu(data: list[bytes]) -> None:
    for i, jpeg in enumerate(data):
        CUTTER(decoded(jpeg), generator(0, i))


def cpu_normalised(data: list[bytes]) -> None:
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (MEAN, STD))
    for i, jpeg in enumerate(data):
        views = CUTTER(decoded(jpeg), generator(0, i))
        for same in (views[:2], views[2:]):
            _ = (torch.from_numpy(np.stack(same)).permute(0, 3, 1, 2) - mean) / std


def gpu_host(data: list[bytes]) -> None:
    for i, jpeg in enumerate(data):
        CUTTER.cut(decoded(jpeg), generator(0, i))


def color_seconds(data: list[bytes], device: str, repeats: int) -> float:
    """Seconds for each image of what `augment_colors` does to a batch of `data`."""
    made = [CUTTER.cut(decoded(jpeg), generator(0, i)) for i, jpeg in enumerate(data)]
    pixels = [torch.from_numpy(np.stack([cut.views[k] for cut in made])).permute(0, 3, 1, 2) for k in range(10)]
    color_params = [torch.from_numpy(np.stack([cut.color_params[k] for cut in made])).float() for k in range(10)]
    batch = ViewBatch([view[:, None] for view in pixels], torch.arange(len(made)), [x[:, None] for x in color_params])
    batch = batch.to(torch.device(device))

    def once() -> None:
        batch.augmented()
        if device != "cpu":
            torch.cuda.synchronize()

    once()
    return measure.seconds(once, repeats) / len(data)


def picture(data: list[bytes]) -> np.ndarray:
    """Rows of one crop each: the crop, torchvision's views, ours."""
    torch.manual_seed(0)
    chains, rows = public_views(), []
    mean, std = (np.array(values) for values in (MEAN, STD))
    for i, jpeg in enumerate(data):
        image = decoded(jpeg)
        theirs = [chain(Image.fromarray(image)).permute(1, 2, 0).numpy() * std + mean for chain in chains]
        theirs = [np.clip(view * 255, 0, 255).astype(np.uint8) for view in theirs]
        rows.append(np.concatenate([_tile([image]), _tile(theirs), _tile(CUTTER(image, generator(0, i)))], axis=1))
    return np.concatenate(rows)


def _tile(views: list[np.ndarray]) -> np.ndarray:
    high = [cv2.resize(view, (64, 128), interpolation=cv2.INTER_AREA) for view in views]
    gap = np.full((128, 16, 3), 255, np.uint8)
    return np.concatenate([*high, gap], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--picture", default="docs/images/views.jpg")
    parser.add_argument("--quick", action="store_true", help="24 crops, 1 round, nothing kept")
    asked = parser.parse_args()
    started_on = measure.machine()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    data = photographs(24 if asked.quick else asked.crops)
    best: dict[str, float] = {}
    ways: list[Callable[[list[bytes]], None]] = [torchvision, cpu, cpu_normalised, gpu_host]
    for _ in range(1 if asked.quick else asked.repeats):
        for way in ways:  # interleaved, so that a busy moment hits all alike
            begun = time.process_time()
            way(data)
            best[way.__name__] = min(best.get(way.__name__, np.inf), time.process_time() - begun)
    figures = {
        "images_per_second_and_core": {name: round(len(data) / taken, 1) for name, taken in best.items()},
        "ratio_to_torchvision": {name: round(best["torchvision"] / taken, 2) for name, taken in best.items()},
        f"color_augment_images_per_second_on_{asked.device}": round(1 / color_seconds(data[:24], asked.device, 3), 1),
        "crops": len(data),
        "median_height": int(np.median([len(decoded(jpeg)) for jpeg in data])),
    }
    print(json.dumps(figures, indent=2))
    if not asked.quick:
        measure.keep("views", figures, started_on)
        cv2.imwrite(asked.picture, picture(data[:: len(data) // 4][:4])[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
