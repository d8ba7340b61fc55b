"""Builds the method that settings name, with its initial weights, on a device."""

import os
from typing import Any

import torch

from reappear.core import SettingsError, generator
from reappear.losses import IdentityDistillationLoss
from reappear.methods.cion import Cion
from reappear.methods.moco import Moco
from reappear.methods.network import Head, Network, unfuse_attention
from reappear.methods.settings import DinoSettings, MocoSettings
from reappear.models import DistillationHead, ProjectionHead, create_model, load_checkpoint
from reappear.pipeline.validation import MEAN, STD
from reappear.train import parallel

from .settings import PretrainSettings


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


def build_network(settings: PretrainSettings) -> Network:
    """The student with its head, on the CPU; the first weights depend on the seed alone.

    Raises:
        InputError: There is no such backbone, or `init` does not fit it.
        SettingsError: The backbone does not take its arguments, the sizes of views, or gradient checkpointing.
    """
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
    if settings.gradient_checkpointing:
        try:
            backbone.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise SettingsError(f"gradient_checkpointing: {settings.backbone} cannot; leave it off") from error
    return Network(backbone, head, mean=MEAN, std=STD)


def build_method(settings: PretrainSettings, steps: int, device: torch.device) -> Cion | Moco:
    """The student with its loss and teacher. All processes of a training must build theirs together."""
    method, network = settings.method, build_network(settings)
    if device.type == "cpu" and settings.precision == "bfloat16":
        unfuse_attention(network.backbone)
    if isinstance(method, MocoSettings):
        return Moco(
            network.to(device),
            queue=method.queue,
            temperature=method.temperature,
            momentum=method.momentum,
            seed=settings.seed,
            buffers=method.teacher_buffers,
            compiled=settings.compile,
            distribute=parallel.wrap_ddp,
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
        parallel.convert_sync_batchnorm(network, device).to(device),
        loss,
        steps=steps,
        momentum=method.momentum,
        first_temperature=method.teacher_temperature if first is None else first,
        temperature_warmup=method.teacher_temperature_warmup,
        freeze_steps=method.freeze_steps,
        buffers=method.teacher_buffers,
        compiled=settings.compile,
        distribute=parallel.wrap_ddp,
    )


def _try_sizes(backbone: Any, settings: PretrainSettings) -> None:
    """Refuses view sizes that the network does not take, before anything is trained."""
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
