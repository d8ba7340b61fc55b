"""Identities to a model."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from reappear.core import SILENT, InputError, Progress, SettingsError, WorkspaceError, settings
from reappear.methods.settings import OWN_LABELS, CionSettings, DinoSettings, MethodSettings, MocoSettings
from reappear.store import CropStore, read_table, remove_folder
from reappear.train.views import ViewSettings

from .probe import MEAN, STD, Probe, held_out
from .record import Outcome, Record, read_record, run_step
from .settings import to_plain
from .workspace import Workspace

if TYPE_CHECKING:
    import torch

    from reappear.methods.cion import Cion
    from reappear.methods.moco import Moco

_OWN_LABELS = ("instance", "tracklet", "given", "true")
_TITLES = {
    "cion": "identity-guided self-distillation (CION)",
    "tracklet": "identity-guided self-distillation on tracklets",
    "dino": "self-distillation of single images (DINO)",
    "moco": "momentum contrast of single images (MoCo-v2)",
}


@settings
class PretrainSettings:
    """How a model is pre-trained. The defaults suit small crops and one core of a CPU; see docs/paper-to-code.md."""

    method: Annotated[MethodSettings, "how it learns"] = field(default_factory=CionSettings)
    backbone: Annotated[str, "architecture: one that `reappear models` shows, stripes4, cnn6, or any timm name"] = (
        "stripes4"
    )
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
    optimizer: Annotated[Literal["adamw", "sgd"], "AdamW, or SGD with momentum 0.9"] = "adamw"
    lr: Annotated[float, "peak learning rate"] = 3e-3
    final_lr: Annotated[float, "learning rate at the end of the cosine"] = 1e-6
    warmup: Annotated[float, "share of the training in which the learning rate rises"] = 0.125
    weight_decay: Annotated[float, "weight decay at the start; biases and norms have none"] = 0.04
    final_weight_decay: Annotated[float, "weight decay at the end of its cosine"] = 0.4
    clip: Annotated[float, "largest norm of each parameter's gradient; 0 = no clipping"] = 3.0
    export: Annotated[Literal["student", "teacher"], "which network becomes the model"] = "student"
    seed: Annotated[int, "seed of everything random"] = 0
    device: Annotated[str, "auto, cpu, cuda, or cuda:N"] = "auto"
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"], "of the forward pass; the halves are for GPUs, and slow elsewhere"
    ] = "float32"
    compile: Annotated[bool, "let torch compile the networks; pays off after some minutes on a GPU"] = False
    recompute: Annotated[bool, "keep fewer activations and compute them again on the way back: slower, less memory"] = (
        False
    )
    accumulate: Annotated[int, "parts that a step's images are cut into, one after the other: less memory"] = 1
    colours_on: Annotated[
        Literal["auto", "host", "device"], "where colours of views are changed; auto: on the device if it is a GPU"
    ] = "auto"
    threads: Annotated[
        int, "CPU threads of the network; 1 suits small ones, and results depend on it in the last bit"
    ] = 1
    workers: Annotated[int, "processes that prepare views ahead; 0 = none"] = 0
    memory_mb: Annotated[int, "decoded crops kept in memory; the others are decoded when needed"] = 2048
    bad_steps: Annotated[int, "steps in a row whose loss or gradient may be not finite: skipped and counted"] = 10
    probe: Annotated[Path | None, "folder in Market-1501 layout that the model is scored on while it trains"] = None
    probe_share: Annotated[float, "share of the people that is not trained on but scored on, where no folder is"] = 0.0
    probe_every: Annotated[int, "steps between scores; 0 = never"] = 0
    tracker: Annotated[
        Literal["none", "tensorboard", "wandb", "mlflow"], "shows the curve beside metrics.jsonl, kept on this machine"
    ] = "none"
    log_every: Annotated[int, "steps between rows of metrics.jsonl"] = 10
    checkpoint_every: Annotated[int, "steps between checkpoints"] = 100
    keep_checkpoints: Annotated[int, "checkpoints that stay, in case the newest is damaged"] = 2


def pretrain(
    work: Workspace,
    name: str,
    settings: PretrainSettings,
    *,
    labels: str | None = None,
    resume: str | Path = "auto",
    progress: Progress = SILENT,
) -> Record:
    """Trains a backbone on the crops of a workspace.

    Args:
        work: Has crops, and identities if they are named.
        name: Of the model: `WORK/models/NAME/` with `model.safetensors`, `config.json`, `README.md`, `metrics.jsonl`.
        settings: See `PretrainSettings`.
        labels: What counts as one person, for the method `cion`: "instance" (each crop), "tracklet", "given" (the
            labels that a set came with), "true" (the footage's ground truth), or the name of identities that
            `correlate` wrote. Other methods say so themselves.
        resume: What a stopped training of this name and these settings is good for. "auto": it goes on. "never": it is
            thrown away. A path: a checkpoint, or a folder of them, of the same training elsewhere, to go on from.
        progress: Who is told.

    Raises:
        InputError: There are no crops, no such identities, or the network does not take the views' sizes.
        SettingsError: A setting is out of range, or contradicts another.
        TrainingError: The training diverged.
    """
    from reappear.train import parallel

    labels = labels_of(settings.method, labels)
    device = _device(settings.device)
    crops = work.open_crops()
    crops.require_images()
    inputs: dict[str, Path | str] = {"crops": work.crops, "labels": labels}
    if labels not in _OWN_LABELS:
        inputs["identities"] = _identities_folder(work, labels)
    if settings.init is not None:
        inputs["init"] = settings.init / "model.safetensors" if settings.init.is_dir() else settings.init
    folder = work.model(name)
    begin_with = Path(resume) if resume not in ("auto", "never") else None
    training = _Training(work, crops, settings, labels, device, name, begin_with)
    with parallel.processes(device) as (rank, world):
        if rank > 0:
            return _join(training, folder)

        def work_in(aside: Path) -> Outcome:
            if resume == "never":
                remove_folder(aside / "checkpoints")
                (aside / "metrics.jsonl").unlink(missing_ok=True)
            if world > 1:
                parallel.tell(str(aside))
            return _train(training, aside, progress)

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


def labels_of(method: MethodSettings, labels: str | None) -> str:
    """What counts as one person.

    Raises:
        SettingsError: The method learns from something else.
    """
    own = OWN_LABELS.get(method.kind)
    if own is None:
        return labels or "round0"
    if labels not in (None, own):
        raise SettingsError(f"labels: method {method.kind} learns from labels {own}, got {labels}; leave them out")
    return own


@dataclass(frozen=True)
class _Training:
    """What every process of a training knows."""

    work: Workspace
    crops: CropStore
    settings: PretrainSettings
    labels: str
    device: "torch.device"
    name: str
    begin_with: Path | None


def _join(training: _Training, folder: Path) -> Record:
    """What processes other than the first do: train along, write nothing."""
    from reappear.train import parallel

    aside = parallel.tell(None)
    if aside:
        _train(training, Path(aside), SILENT)
        parallel.tell(None)
    if not folder.exists():
        raise WorkspaceError(f"{folder} was not made: the first process failed, see its message")
    return read_record(folder)


def _train(training: _Training, aside: Path, progress: Progress) -> Outcome:
    import torch

    from reappear.models import save_model
    from reappear.train import parallel
    from reappear.train.batches import StepBatches
    from reappear.train.loop import train
    from reappear.train.optimizer import Schedule
    from reappear.train.sampler import IdentitySampler

    settings, crops, labels, device = training.settings, training.crops, training.labels, training.device
    rank, world = parallel.rank_and_world()
    if not 0 <= settings.warmup < 1:
        raise SettingsError(f"warmup: must be a share of the training in 0..1, less than 1, got {settings.warmup}")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        rows, identity, dropped = _labelled(crops, labels, training.work)
        held = np.zeros(len(rows), bool)
        if settings.probe is None and settings.probe_share:
            held = held_out(crops, rows, identity, share=settings.probe_share, seed=settings.seed)
        probe = None
        if rank == 0 and settings.probe is not None:
            probe = Probe.of_folder(settings.probe, settings.height, settings.width)
        elif rank == 0 and held.any():
            probe = Probe.of_crops(crops, rows[held], identity[held], settings.height, settings.width)
        rows, identity = rows[~held], identity[~held]
        if held.any():
            dropped = {**dropped, "held out for the probe": int(held.sum())}
        stages = ((0.0, 1),) if labels == "instance" else getattr(settings.method, "curriculum", ((0.0, 1),))
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
        on_device = settings.colours_on == "device" or (settings.colours_on == "auto" and device.type == "cuda")
        data = StepBatches(
            images, identity, sampler, cutter, seed=settings.seed, rank=rank, world=world, undressed=on_device
        )
        metrics = train(
            method,
            data,
            schedule,
            images_per_step=settings.images_per_step,
            device=device,
            seed=settings.seed,
            folder=aside,
            optimizer=settings.optimizer,
            precision=settings.precision,
            accumulate=settings.accumulate,
            bad_steps=settings.bad_steps,
            workers=settings.workers,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            keep_checkpoints=settings.keep_checkpoints,
            begin_with=training.begin_with,
            mark=json.dumps({"labels": labels, **to_plain(settings)}, sort_keys=True),
            tracker=settings.tracker,
            name=training.name,
            probe=None if probe is None else (lambda: probe.score(exported.backbone, device)),
            probe_every=settings.probe_every,
            progress=progress,
        )
        counts: dict[str, int | float] = {
            "steps": steps,
            "crops": len(rows),
            "identities": len(np.unique(identity)),
            **({"loss": metrics[-1]["loss"]} if metrics and "loss" in metrics[-1] else {}),
        }
        if rank == 0:
            config = {
                "architecture": settings.backbone,
                "arguments": settings.arguments,
                "height": settings.height,
                "width": settings.width,
                "mean": MEAN,
                "std": STD,
                "exported": settings.export,
                "method": settings.method.kind,
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
    elif labels == "given":
        if "label" not in crops.crops:
            raise InputError(f"{crops.folder} came without labels, as videos do; train with other labels")
        identity = np.asarray(crops.crops["label"], np.int64)
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


def _method(settings: PretrainSettings, steps: int, device: "torch.device") -> "Cion | Moco":
    """The student with its head, loss and teacher; the first weights depend on the seed alone."""
    import torch

    from reappear.core import generator
    from reappear.losses import IdentityDistillationLoss
    from reappear.methods.cion import Cion
    from reappear.methods.moco import Moco
    from reappear.methods.network import Head, Network
    from reappear.models import DistillationHead, ProjectionHead, create_model, load_checkpoint
    from reappear.train import parallel

    method = settings.method
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(settings.seed, "weights").integers(1 << 62)))
        backbone: Any = create_model(settings.backbone, **settings.arguments)
        width = backbone.num_features
        head: Head
        if isinstance(method, MocoSettings):
            head = ProjectionHead(width, hidden=method.head_hidden or width, width=method.head_width)
        else:
            head = DistillationHead(
                width,
                hidden=method.head_hidden,
                bottleneck=method.head_bottleneck,
                prototypes=method.prototypes,
                batch_norm=method.head_batch_norm,
            )
    if settings.init is not None:
        load_checkpoint(backbone, settings.init)
    _try_sizes(backbone, settings)
    if settings.recompute:
        try:
            backbone.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise SettingsError(f"recompute: {settings.backbone} cannot; leave it off") from error
    network = Network(backbone, head, mean=MEAN, std=STD)
    if isinstance(method, MocoSettings):
        return Moco(
            network.to(device),
            queue=method.queue,
            temperature=method.temperature,
            momentum=method.momentum,
            seed=settings.seed,
            buffers=method.teacher_buffers,
            compiled=settings.compile,
            distribute=parallel.share_gradients,
        )
    loss = IdentityDistillationLoss(
        method.prototypes,
        student_temperature=method.student_temperature,
        teacher_temperature=method.teacher_temperature,
        center_momentum=method.center_momentum,
        weighting="equation" if isinstance(method, DinoSettings) else method.weighting,
    ).to(device)
    first = method.first_teacher_temperature
    return Cion(
        parallel.share_statistics(network, device).to(device),
        loss,
        steps=steps,
        momentum=method.momentum,
        first_temperature=method.teacher_temperature if first is None else first,
        temperature_warmup=method.teacher_temperature_warmup,
        freeze_steps=method.freeze_steps,
        buffers=method.teacher_buffers,
        compiled=settings.compile,
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


def _card(
    settings: PretrainSettings, labels: str, counts: dict[str, int | float], metrics: list[dict[str, int | float]]
) -> str:
    """README.md of a model."""
    probes = [row["probe_map"] for row in metrics if "probe_map" in row]
    lines = [
        f"# {settings.backbone}, pre-trained by {_TITLES[settings.method.kind]}",
        "",
        f"- Input: RGB, {settings.height}×{settings.width}, mean {MEAN}, std {STD} of pixels in [0, 1]",
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
