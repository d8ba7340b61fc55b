"""Data-parallel training in several processes, started by `torchrun`."""

import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather as all_gather_with_gradient

from reappear.core import SettingsError

Network = TypeVar("Network", bound=nn.Module)
Value = TypeVar("Value")


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    """Initialises the process group where torchrun started several processes; yields rank and world size.

    Communication is NCCL between GPUs and gloo between CPUs.
    """
    if torchrun_environment() == 1 or dist.is_initialized():
        yield rank_and_world()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield rank_and_world()
        dist.barrier()  # wait for all ranks
    finally:
        gc.collect()  # a network of DistributedDataParallel that outlives its group may abort the process
        dist.destroy_process_group()


def torchrun_environment() -> int:
    """The number of processes that torchrun started, from the environment variables that it sets; 1 without it.

    Raises:
        SettingsError: A variable is missing or out of range.
    """
    if "WORLD_SIZE" not in os.environ:
        return 1
    world = _whole_number("WORLD_SIZE", least=1)
    if world > 1:
        _whole_number("RANK", most=world - 1)
        _whole_number("LOCAL_RANK", most=world - 1)
        _whole_number("MASTER_PORT", least=1, most=65535)
        if not os.environ.get("MASTER_ADDR"):
            raise SettingsError(f"MASTER_ADDR: must be given with WORLD_SIZE={world} (environment); {_START}")
    return world


_START = "unset WORLD_SIZE, or start the processes with torchrun, which sets all of them"


def _whole_number(name: str, *, least: int = 0, most: int = 1 << 31) -> int:
    given = os.environ.get(name)
    if given is None or not given.isascii() or not given.isdigit() or not least <= int(given) <= most:
        raise SettingsError(f"{name}: must be a whole number in {least}..{most} (environment), got {given!r}; {_START}")
    return int(given)


def rank_and_world() -> tuple[int, int]:
    """Rank and world size; (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def wrap_ddp(module: nn.Module) -> nn.Module:
    """Wraps a module in DistributedDataParallel where there are several processes."""
    if rank_and_world()[1] == 1:
        return module
    return nn.parallel.DistributedDataParallel(module)


def no_sync(module: nn.Module) -> AbstractContextManager[None]:
    """Context in which a module of `wrap_ddp` does not average gradients: all but the last part of a step."""
    if isinstance(module, nn.parallel.DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


def all_gather(rows: Tensor) -> Tensor:
    """Rows of all processes, concatenated in rank order; all have the same number."""
    world = rank_and_world()[1]
    if world == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world)]
    dist.all_gather(parts, rows)
    return torch.cat(parts)


def gather_others(rows: Tensor) -> Tensor:
    """Rows of the other processes, concatenated in rank order; none in one process. Gradients flow back to them."""
    rank, world = rank_and_world()
    if world == 1:
        return rows[:0]
    gather = all_gather_with_gradient if rows.requires_grad else lambda rows: all_gather(rows).chunk(world)
    parts = gather(rows)
    return torch.cat([part for other, part in enumerate(parts) if other != rank])


def convert_sync_batchnorm(module: Network, device: torch.device) -> Network:
    """Converts batch norm to SyncBatchNorm on GPUs; CPU processes keep their own statistics."""
    if rank_and_world()[1] == 1 or device.type != "cuda":
        return module
    synced: Network = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return synced


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a value over all processes."""
    world = rank_and_world()[1]
    if world == 1:
        return value
    shared = value.clone()
    dist.all_reduce(shared)
    return shared / world


def broadcast_text(message: str | None) -> str:
    """Broadcasts the text of rank 0 to all ranks."""
    texts: list[str | None] = [message]
    dist.broadcast_object_list(texts, src=0)
    return str(texts[0])


def broadcast_object(value: Value | None) -> Value:
    """Broadcasts a value of rank 0, such as a numpy array, to all ranks; others give None."""
    if rank_and_world()[1] == 1:
        return cast(Value, value)
    values: list[Value | None] = [value]
    dist.broadcast_object_list(values, src=0)
    return cast(Value, values[0])


def gather_objects(value: Value) -> list[Value]:
    """The value of each rank, such as a dictionary, in rank order, in all ranks."""
    world = rank_and_world()[1]
    values: list[Value] = [value] * world
    if world > 1:
        dist.all_gather_object(values, value)
    return values


def broadcast_tensor(tensor: Tensor) -> None:
    """Sets a tensor of each rank to that of rank 0."""
    if rank_and_world()[1] > 1:
        dist.broadcast(tensor, src=0)
