"""What a training method is built from: its settings, the images, and where it runs."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from reappear.core import ImageTable, SettingsError, generator
from reappear.models import create_model, load_checkpoint
from reappear.models.folder import read_config
from reappear.store import find_weights
from reappear.train import parallel
from reappear.train.datasets import Images, PatchDataset, ViewDataset
from reappear.train.samplers import IdentitySampler
from reappear.train.schedule import Stages
from reappear.train.settings import BaseTrainSettings, TrainSettings
from reappear.train.task import Phase
from reappear.train.views import MultiCrop

from .network import Head, Network, unfuse_attention
from .settings import MethodSettings

MethodT = TypeVar("MethodT", bound=MethodSettings, covariant=True)


@dataclass(frozen=True)
class Setup(Generic[MethodT]):
    """What a method is built from.

    Attributes:
        training: Settings of the training.
        method: Settings of the method.
        images: Read by row.
        table: Labels of the images: identity, camera and tracklet of each.
        labels: Name of the identities: "instance" where each image has its own.
        steps: Of the training.
        device: Where it runs.
    """

    training: BaseTrainSettings
    method: MethodT
    images: Images
    table: ImageTable
    labels: str
    steps: int
    device: torch.device

    def network(
        self,
        make_head: Callable[[int], Head],
        *,
        sync_batch_norm: bool = False,
        extend: Callable[[nn.Module], nn.Module] | None = None,
    ) -> Network:
        """The student as it begins, on the device; its first weights depend on the seed alone.

        Args:
            make_head: From the width of the features.
            sync_batch_norm: Whether batch norm takes its statistics over all GPUs.
            extend: See `build_network`.
        """
        network = build_network(self.training, make_head, extend=extend, extended=self.method.extended)
        if self.device.type == "cpu" and self.training.precision == "bfloat16":
            unfuse_attention(network.backbone)
        if sync_batch_norm:
            network = parallel.convert_sync_batchnorm(network, self.device)
        return network.to(self.device)

    def student_and_teacher(
        self, make_head: Callable[[int], Head], *, sync_batch_norm: bool = False
    ) -> tuple[Network, Network]:
        """The student, and a copy of it that no gradient reaches; compiled where the settings ask for it."""
        student = self.network(make_head, sync_batch_norm=sync_batch_norm)
        teacher = copy.deepcopy(student).requires_grad_(False)
        self.compile(student, teacher)
        return student, teacher

    def compile(self, *networks: Network) -> None:
        """Compiles backbones where the settings ask for it."""
        for network in networks if self.training.compile else ():
            network.compile_backbone()

    def pixels(self, rows: Int[np.ndarray, " n"]) -> UInt8[Tensor, "n 3 h w"]:
        """Whole images, not augmented, on the device."""
        pixels = self.training.preprocessing.resize([self.images[row] for row in rows.tolist()])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)

    def views(
        self,
        stages: Stages = ((0.0, 1),),
        *,
        by_camera: bool = False,
        with_images: bool = False,
        patches: tuple[int, int] | None = None,
    ) -> Phase:
        """One phase, in which views of the images are compared.

        Args:
            stages: The curriculum, see `schedule.stage`.
            by_camera: Whether the groups of a step begin at one camera, as far as its images go.
            with_images: Whether batches have the whole images, and where the views were cut: a `PatchBatch`.
            patches: Rows and columns of patches that a `PatchBatch` has views of.
        """
        training = cast(TrainSettings, self.training)  # those of a method that compares views
        on_device = training.colours_on == "device" or (training.colours_on == "auto" and self.device.type == "cuda")
        sampler = IdentitySampler(
            self.table.identity,
            images_per_step=training.images_per_step,
            steps=self.steps,
            stages=stages,
            seed=training.seed,
            place=self.table.camera if by_camera else None,
        )
        given = (self.images, self.table, sampler, multi_crop(training))
        if not with_images:
            return Phase(0, self.steps, ViewDataset(*given, seed=training.seed, defer_colors=on_device))
        size = training.height, training.width
        rows, columns = patches or (1, 1)
        crop = training.views.build_whole(height=size[0] // rows, width=size[1] // columns) if patches else None
        data = PatchDataset(
            *given,
            size=size,
            seed=training.seed,
            defer_colors=on_device,
            patch_crop=crop,
            grid=(rows, columns),
        )
        return Phase(0, self.steps, data)


def choose_device(name: str) -> torch.device:
    """The device of this name; under torchrun, "cuda" is the GPU that is this process's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device: must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"device: {name} was asked for, and there is no GPU that this PyTorch can use; take cpu")
    if name != "cuda":
        return device
    local = os.environ.get("LOCAL_RANK", "0")
    if not local.isdigit() or int(local) >= torch.cuda.device_count():
        raise SettingsError(f"LOCAL_RANK: there is no GPU {local} (environment); start no more processes than GPUs")
    return torch.device("cuda", int(local))


def multi_crop(training: TrainSettings) -> MultiCrop:
    """The views of each image."""
    return training.views.build(
        height=training.height,
        width=training.width,
        local_height=training.local_height,
        local_width=training.local_width,
    )


def build_network(
    training: BaseTrainSettings,
    make_head: Callable[[int], Head],
    *,
    extend: Callable[[nn.Module], nn.Module] | None = None,
    extended: str = "",
) -> Network:
    """A backbone with its head, on the CPU.

    Args:
        training: Names the backbone and its first weights.
        make_head: From the width of the features.
        extend: Gives the backbone further layers, once it has its first weights.
        extended: Architecture of model folders that have weights of these layers too; without `extend` theirs are not
            read.

    Raises:
        InputError: There is no such backbone, or `init` does not fit it.
        SettingsError: The backbone does not take its arguments, the sizes of images, or gradient checkpointing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(training.seed, "weights").integers(1 << 62)))
        backbone: Any = create_model(training.backbone, **training.arguments)
        init = None if training.init is None else find_weights(training.init)
        whole = init is not None and _is_model_of(init, extended)
        if init is not None and not whole:
            load_checkpoint(backbone, init)
        if training.gradient_checkpointing:
            try:
                backbone.set_grad_checkpointing(True)
            except (AttributeError, AssertionError) as error:
                raise SettingsError(f"gradient_checkpointing: {training.backbone} cannot; leave it off") from error
        if extend is not None:
            backbone = extend(backbone)
        if init is not None and whole and extend is not None:
            load_checkpoint(backbone, init)
        head = make_head(backbone.num_features)
    _try_sizes(backbone, training)
    statistics = training.batch_norm_statistics if isinstance(training, TrainSettings) else "all"
    return Network(backbone, head, preprocessing=training.preprocessing, statistics=statistics)


def _is_model_of(path: Path, architecture: str) -> bool:
    """Whether it is the model folder of an architecture; "" = of none."""
    return bool(architecture) and (path / "config.json").exists() and read_config(path)["architecture"] == architecture


def _try_sizes(backbone: Any, training: BaseTrainSettings) -> None:
    """Refuses view sizes that the network does not take, before anything is trained."""
    sizes = [(training.height, training.width)]
    if isinstance(training, TrainSettings) and training.views.local_views:
        sizes.append((training.local_height, training.local_width))
    for height, width in sizes:
        try_size(training.backbone, backbone, height, width)


def try_size(name: str, backbone: Any, height: int, width: int) -> None:
    """Raises SettingsError where a backbone does not take images of this size."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            shape = tuple(backbone(next(backbone.parameters()).new_zeros(1, 3, height, width)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SettingsError(
            f"{name} does not take images of {height}x{width} ({' '.join(str(error).split())[:120]}); "
            "change the sizes, or set arguments such as {dynamic_img_size: true}"
        ) from error
    if shape != (1, backbone.num_features):
        raise SettingsError(f"{name} gives {shape} for one image of {height}x{width}, not one vector")
    backbone.train(was_training)
