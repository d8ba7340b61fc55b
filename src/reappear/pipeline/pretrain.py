"""Identities to a model."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from reappear.core import SILENT, InputError, Progress, SettingsError, WorkspaceError, settings
from reappear.store import CropStore, read_table, remove_folder
from reappear.train.views import ViewSettings

from .record import Outcome, Record, read_record, run_step
from .workspace import Workspace

if TYPE_CHECKING:
    import torch
    from torch import nn

    from reappear.methods.cion import Cion

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OWN_LABELS = ("instance", "tracklet", "true")


@settings
class PretrainSettings:
    """How a model is pre-trained. The defaults suit small crops and one core of a CPU; see docs/paper-to-code.md."""

    backbone: Annotated[str, "architecture: stripes4, cnn6, or any timm name"] = "stripes4"
    arguments: Annotated[dict[str, Any], "arguments of the architecture, such as {width: 48}"] = field(
        default_factory=dict
    )
    init: Annotated[Path | None, "weights to start from: a model folder or checkpoint; random if not given"] = None
    height: Annotated[int, "height of global views in pixels"] = 64
    width: Annotated[int, "width of global views in pixels"] = 32
    local_height: Annotated[int, "height of local views in pixels"] = 32
    local_width: Annotated[int, "width of local views in pixels"] = 16
    views: Annotated[ViewSettings, "views of each image"] = field(
        default_factory=lambda: ViewSettings(local_views=0)  # a part of a person in 32x16 pixels teaches little
    )
    steps: Annotated[int | None, "steps of training; 0 exports the network untrained; epochs count if not given"] = 320
    epochs: Annotated[float, "passes over the crops, where steps are not given"] = 100.0
    images_per_step: Annotated[int, "images in a step, over all processes; a multiple of the curriculum's"] = 96
    curriculum: Annotated[
        tuple[tuple[float, int], ...],
        "images per identity (N_id), from which share of the training; 1 throughout for labels = instance",
    ] = ((0.0, 2), (0.4, 4), (0.6, 6), (0.8, 8))
    weighting: Annotated[Literal["equation", "official"], "what a pair counts for: Eq. 9, or the public code"] = (
        "equation"
    )
    head_hidden: Annotated[int, "width of the head's hidden layers"] = 512
    head_bottleneck: Annotated[int, "width of the vectors that are compared with prototypes"] = 128
    head_batch_norm: Annotated[bool, "batch norm in the head"] = True
    prototypes: Annotated[int, "prototypes (K)"] = 2048
    student_temperature: Annotated[float, "tau_s"] = 0.1
    teacher_temperature: Annotated[float, "tau_t"] = 0.03
    first_teacher_temperature: Annotated[float | None, "tau_t at step 0; tau_t if not given"] = None
    teacher_temperature_warmup: Annotated[int, "steps from there to tau_t"] = 0
    center_momentum: Annotated[float, "share of the old centre that stays in a step"] = 0.9
    momentum: Annotated[float, "share of the teacher that stays in a step; rises to 1 along a cosine"] = 0.97
    teacher_buffers: Annotated[
        Literal["own", "average", "copy"], "batch norm statistics of the teacher: of its own passes, averaged, copied"
    ] = "own"
    lr: Annotated[float, "peak learning rate of AdamW"] = 3e-3
    final_lr: Annotated[float, "learning rate at the end of the cosine"] = 1e-6
    warmup: Annotated[float, "share of the training in which the learning rate rises"] = 0.125
    weight_decay: Annotated[float, "weight decay at the start; biases and norms have none"] = 0.04
    final_weight_decay: Annotated[float, "weight decay at the end of its cosine"] = 0.4
    clip: Annotated[float, "largest norm of each parameter's gradient; 0 = no clipping"] = 3.0
    freeze_steps: Annotated[int, "first steps in which the prototypes stay as they are"] = 0
    export: Annotated[Literal["student", "teacher"], "which network becomes the model"] = "student"
    seed: Annotated[int, "seed of everything random"] = 0
    device: Annotated[str, "auto, cpu, cuda, or cuda:N"] = "auto"
    precision: Annotated[Literal["float32", "bfloat16", "float16"], "of the forward pass; float32 on a CPU"] = "float32"
    threads: Annotated[
        int, "CPU threads of the network; 1 suits small ones, and results depend on it in the last bit"
    ] = 1
    workers: Annotated[int, "processes that prepare views ahead; 0 = none"] = 0
    memory_mb: Annotated[int, "decoded crops kept in memory; the others are decoded when needed"] = 2048
    probe: Annotated[Path | None, "folder in Market-1501 layout that the model is scored on while it trains"] = None
    probe_every: Annotated[int, "steps between scores; 0 = never"] = 0
    log_every: Annotated[int, "steps between rows of metrics.jsonl"] = 10
    checkpoint_every: Annotated[int, "steps between checkpoints"] = 100
    keep_checkpoints: Annotated[int, "checkpoints that stay, in case the newest is damaged"] = 2


def pretrain(
    work: Workspace, name: str, settings: PretrainSettings, *, labels: str, progress: Progress = SILENT
) -> Record:
    """Trains a backbone by identity-guided self-distillation on the crops of a workspace.

    Args:
        work: Has crops, and identities if they are named.
        name: Of the model: `WORK/models/NAME/` with `model.safetensors`, `config.json`, `README.md`, `metrics.jsonl`.
        settings: See `PretrainSettings`.
        labels: What counts as one person: "instance" (each crop: DINO), "tracklet", "true" (the footage's ground
            truth), or the name of identities that `correlate` wrote.
        progress: Who is told.

    Raises:
        InputError: There are no crops, no such identities, or the network does not take the views' sizes.
        SettingsError: A setting is out of range.
        TrainingError: The training diverged.
    """
    from reappear.train import parallel

    device = _device(settings.device)
    crops = work.open_crops()
    crops.require_images()
    inputs: dict[str, Path | str] = {"crops": work.crops, "labels": labels}
    if labels not in _OWN_LABELS:
        inputs["identities"] = _identities_folder(work, labels)
    if settings.init is not None:
        inputs["init"] = settings.init / "model.safetensors" if settings.init.is_dir() else settings.init
    folder = work.model(name)
    with parallel.processes(device) as (rank, world):
        if rank > 0:
            return _join(crops, settings, folder, labels, work, device)

        def work_in(aside: Path) -> Outcome:
            if world > 1:
                parallel.tell(str(aside))
            return _train(crops, settings, aside, labels, work, device, progress)

        try:
            record = run_step(
                folder, step="pretrain", settings=settings, inputs=inputs, work=work_in, progress=progress
            )
        except BaseException:
            if world > 1:
                parallel.tell("")
            raise
        if world > 1:
            parallel.tell("")
        return record


def _join(
    crops: CropStore, settings: PretrainSettings, folder: Path, labels: str, work: Workspace, device: "torch.device"
) -> Record:
    """What processes other than the first do: train along, write nothing."""
    from reappear.train import parallel

    aside = parallel.tell(None)
    if aside:
        _train(crops, settings, Path(aside), labels, work, device, SILENT)
        parallel.tell(None)
    if not folder.exists():
        raise WorkspaceError(f"{folder} was not made: the first process failed, see its message")
    return read_record(folder)


def _train(
    crops: CropStore,
    settings: PretrainSettings,
    aside: Path,
    labels: str,
    work: Workspace,
    device: "torch.device",
    progress: Progress,
) -> Outcome:
    import torch

    from reappear.models import save_model
    from reappear.train import parallel
    from reappear.train.batches import StepBatches
    from reappear.train.loop import Schedule, train
    from reappear.train.sampler import IdentitySampler

    rank, world = parallel.rank_and_world()
    if not 0 <= settings.warmup < 1:
        raise SettingsError(f"warmup: must be a share of the training in 0..1, less than 1, got {settings.warmup}")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        rows, identity, dropped = _labelled(crops, labels, work)
        stages = ((0.0, 1),) if labels == "instance" else settings.curriculum
        steps = settings.steps
        if steps is None:
            steps = max(1, round(settings.epochs * len(rows) / settings.images_per_step))
        schedule = Schedule(
            steps=steps,
            lr=settings.lr,
            final_lr=settings.final_lr,
            warmup_steps=int(settings.warmup * steps),
            weight_decay=settings.weight_decay,
            final_weight_decay=settings.final_weight_decay,
            clip=settings.clip,
        )
        sampler = IdentitySampler(
            identity, images_per_step=settings.images_per_step, steps=steps, stages=stages, seed=settings.seed
        )
        cutter = settings.views.build(
            height=settings.height,
            width=settings.width,
            local_height=settings.local_height,
            local_width=settings.local_width,
        )
        method = _method(settings, steps, device)
        exported = getattr(method, settings.export)
        images = CropImages(crops, rows, tallest=2 * settings.height, memory_mb=settings.memory_mb)
        data = StepBatches(images, identity, sampler, cutter, seed=settings.seed, rank=rank, world=world)
        probe = None
        if settings.probe is not None and rank == 0:
            probe = Probe.read(settings.probe, settings.height, settings.width)
        metrics = train(
            method,
            data,
            schedule,
            images_per_step=settings.images_per_step,
            device=device,
            seed=settings.seed,
            folder=aside,
            precision=settings.precision,
            workers=settings.workers,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            keep_checkpoints=settings.keep_checkpoints,
            probe=None if probe is None else (lambda: probe.score(exported.backbone, device)),
            probe_every=settings.probe_every,
            progress=progress,
        )
        counts: dict[str, int | float] = {
            "steps": steps,
            "crops": len(rows),
            "identities": len(np.unique(identity)),
            **({"loss": metrics[-1]["loss"]} if metrics else {}),
        }
        if rank == 0:
            config = {
                "architecture": settings.backbone,
                "arguments": settings.arguments,
                "height": settings.height,
                "width": settings.width,
                "mean": _MEAN,
                "std": _STD,
                "exported": settings.export,
                "method": "cion",
                "labels": labels,
                "steps": steps,
                "images_per_step": settings.images_per_step,
            }
            save_model(aside, exported.backbone, config, card=_card(settings, labels, counts, metrics))
            remove_folder(aside / "checkpoints")
        return Outcome(counts, dropped)
    finally:
        torch.set_num_threads(threads)


def _labelled(
    crops: CropStore, labels: str, work: Workspace
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], dict[str, int]]:
    """The crops to train on, who is on each, and how many are left out for which reason."""
    reason = "without an identity"
    if labels == "instance":
        identity = np.arange(len(crops))
    elif labels == "tracklet":
        identity = np.asarray(crops.crops["tracklet"], np.int64)
    elif labels == "true":
        identity, reason = np.asarray(crops.crops["truth"], np.int64), "of nobody that the ground truth knows"
        if not np.any(identity >= 0):
            raise InputError(f"{crops.folder} has no true identities; train with other labels")
    else:
        identity = np.asarray(read_table(_identities_folder(work, labels) / "identities.parquet")["identity"], np.int64)
        if len(identity) != len(crops):
            raise WorkspaceError(f"identities {labels!r} are of other crops than {crops.folder}; correlate again")
    rows = np.flatnonzero(identity >= 0)
    if len(rows) == 0:
        raise InputError(f"labels {labels!r} leave no crops to train on; look at the thresholds of correlate")
    left_out = len(identity) - len(rows)
    return rows, identity[rows], {reason: left_out} if left_out else {}


def _identities_folder(work: Workspace, labels: str) -> Path:
    folder = work.identities(labels)
    if not (folder / "record.json").exists():
        there = sorted(path.parent.name for path in work.identities("").glob("*/record.json"))
        raise InputError(
            f"{work.root} has no identities {labels!r}; labels are {', '.join((*_OWN_LABELS, *there))}"
            + ("" if there else "; `reappear correlate` makes more")
        )
    return folder


def _device(name: str) -> "torch.device":
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device: must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"device: {name} was asked for, and there is no GPU that this PyTorch can use; take cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else device


def _method(settings: PretrainSettings, steps: int, device: "torch.device") -> "Cion":
    """The student with its head, loss and teacher; the first weights depend on the seed alone."""
    import torch

    from reappear.core import generator
    from reappear.losses import IdentityDistillationLoss
    from reappear.methods.cion import Cion, Network
    from reappear.models import DistillationHead, create_model, load_checkpoint
    from reappear.train import parallel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(settings.seed, "weights").integers(1 << 62)))
        backbone: Any = create_model(settings.backbone, **settings.arguments)
        head = DistillationHead(
            backbone.num_features,
            hidden=settings.head_hidden,
            bottleneck=settings.head_bottleneck,
            prototypes=settings.prototypes,
            batch_norm=settings.head_batch_norm,
        )
    if settings.init is not None:
        load_checkpoint(backbone, settings.init)
    _try_sizes(backbone, settings)
    network = parallel.share_statistics(Network(backbone, head, mean=_MEAN, std=_STD), device).to(device)
    loss = IdentityDistillationLoss(
        settings.prototypes,
        student_temperature=settings.student_temperature,
        teacher_temperature=settings.teacher_temperature,
        center_momentum=settings.center_momentum,
        weighting=settings.weighting,
    ).to(device)
    first = settings.first_teacher_temperature
    return Cion(
        network,
        loss,
        steps=steps,
        momentum=settings.momentum,
        first_temperature=settings.teacher_temperature if first is None else first,
        temperature_warmup=settings.teacher_temperature_warmup,
        freeze_steps=settings.freeze_steps,
        buffers=settings.teacher_buffers,
        distribute=parallel.share_gradients,
    )


def _try_sizes(backbone: Any, settings: PretrainSettings) -> None:
    """Refuses view sizes that the network does not take, before anything is trained."""
    import torch

    sizes = [(settings.height, settings.width)]
    if settings.views.local_views:
        sizes.append((settings.local_height, settings.local_width))
    was_training = backbone.training
    backbone.eval()
    for height, width in sizes:
        try:
            with torch.no_grad():
                shape = tuple(backbone(torch.zeros(1, 3, height, width)).shape)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SettingsError(
                f"{settings.backbone} does not take images of {height}x{width} ({' '.join(str(error).split())[:120]}); "
                "change the sizes, or set arguments such as {dynamic_img_size: true}"
            ) from error
        if shape != (1, backbone.num_features):
            raise SettingsError(f"{settings.backbone} gives {shape} for one image of {height}x{width}, not one vector")
    backbone.train(was_training)


class CropImages:
    """The crops that are trained on, decoded once as far as memory allows.

    Args:
        crops: Where they lie.
        rows: Which.
        tallest: Taller crops are shrunk to this height in pixels when decoded.
        memory_mb: How much decoded crops may take.
    """

    def __init__(self, crops: CropStore, rows: Int[np.ndarray, " n"], *, tallest: int, memory_mb: int) -> None:
        self._crops, self._rows, self._tallest = crops, rows, tallest
        self._held: list[np.ndarray] = []
        left = memory_mb * 2**20
        for position in range(len(rows)):
            image = self._decode(position)
            left -= image.nbytes
            if left < 0:
                break
            self._held.append(image)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._held[image] if image < len(self._held) else self._decode(image)

    def _decode(self, position: int) -> UInt8[np.ndarray, "h w 3"]:
        crop = int(self._rows[position])
        pixels = cv2.imdecode(np.frombuffer(self._crops.image(crop), np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise InputError(f"crop {crop} in {self._crops.folder} is damaged; ingest into a new workspace")
        height, width = pixels.shape[:2]
        if height > self._tallest:
            size = (max(1, round(width * self._tallest / height)), self._tallest)
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return np.asarray(pixels, np.uint8)


@dataclass(frozen=True)
class Probe:
    """People to score on while training: query and gallery of a folder in Market-1501 layout, across cameras."""

    query: UInt8[np.ndarray, "q 3 h w"]
    gallery: UInt8[np.ndarray, "g 3 h w"]
    query_ids: Int[np.ndarray, " q"]
    gallery_ids: Int[np.ndarray, " g"]
    query_cameras: Int[np.ndarray, " q"]
    gallery_cameras: Int[np.ndarray, " g"]

    @classmethod
    def read(cls, root: Path, height: int, width: int) -> "Probe":
        """Decodes and resizes all images once."""
        from reappear.data import read

        table = read("market1501", root)
        query, gallery = table.where("query"), table.where("gallery")
        return cls(
            _resized(query.path, height, width),
            _resized(gallery.path, height, width),
            query.identity,
            gallery.identity,
            query.camera,
            gallery.camera,
        )

    def score(self, backbone: "nn.Module", device: "torch.device") -> float:
        """MAP of a backbone, in [0, 1]."""
        from reappear.metrics import rank

        ranking = rank(
            _features(backbone, self.query, device),
            _features(backbone, self.gallery, device),
            query_ids=self.query_ids,
            gallery_ids=self.gallery_ids,
            query_cameras=self.query_cameras,
            gallery_cameras=self.gallery_cameras,
        )
        return ranking.mean_ap


def _resized(paths: np.ndarray, height: int, width: int) -> UInt8[np.ndarray, "n 3 h w"]:
    out = np.empty((len(paths), 3, height, width), np.uint8)
    for i, path in enumerate(paths):
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise InputError(f"{path} is not a readable image; remove it from the probe")
        shrinks = pixels.shape[0] * pixels.shape[1] > height * width
        shown = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        out[i] = shown.transpose(2, 0, 1)
    return out


def _features(backbone: "nn.Module", images: np.ndarray, device: "torch.device") -> np.ndarray:
    import torch

    mean = torch.tensor(_MEAN, device=device).view(3, 1, 1) * 255
    std = torch.tensor(_STD, device=device).view(3, 1, 1) * 255
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        parts = [
            backbone((torch.from_numpy(images[i : i + 256]).to(device) - mean) / std).float().cpu().numpy()
            for i in range(0, len(images), 256)
        ]
    backbone.train(was_training)
    return np.concatenate(parts)


def _card(
    settings: PretrainSettings, labels: str, counts: dict[str, int | float], metrics: list[dict[str, int | float]]
) -> str:
    """README.md of a model."""
    probes = [row["probe_map"] for row in metrics if "probe_map" in row]
    lines = [
        f"# {settings.backbone}, pre-trained by identity-guided self-distillation",
        "",
        f"- Input: RGB, {settings.height}×{settings.width}, mean {_MEAN}, std {_STD} of pixels in [0, 1]",
        f"- Trained on {counts['crops']:,} crops of {counts['identities']:,} identities (labels: {labels}), "
        f"{counts['steps']:,} steps of {settings.images_per_step} images",
        f"- Exported: the {settings.export}; seed {settings.seed}",
        *([f"- Probe mAP at the end: {probes[-1]:.3f}"] if probes else []),
        "",
        "```python",
        "from reappear.models import load_model",
        "",
        'model, config = load_model("path/of/this/folder")',
        "```",
        "",
    ]
    return "\n".join(lines)
