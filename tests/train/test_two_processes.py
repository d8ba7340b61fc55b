"""Two processes with half a step's images each are one process with all of them.

In float64, to tell a fault from rounding, and without batch norm: its statistics are those of the images that a process
sees. PyTorch's synchronised batch norm, which makes them the whole step's, runs on GPUs alone.
"""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_RUN = """
import sys
import numpy as np
import torch
from pathlib import Path
from reappear.losses import IdentityDistillationLoss
from reappear.methods.cion import Cion
from reappear.methods.moco import Moco
from reappear.methods.network import Network
from reappear.models import DistillationHead, ProjectionHead, create_model
from reappear.train import parallel
from reappear.train.batches import StepBatches
from reappear.train.loop import train
from reappear.train.optimizer import Schedule
from reappear.train.sampler import IdentitySampler
from reappear.train.views import ViewSettings

kind, images, folder, accumulate = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
device, steps = torch.device("cpu"), 4
torch.set_num_threads(1)
photos = [np.random.default_rng(i).integers(0, 256, (80, 40, 3), dtype=np.uint8) for i in range(48)]
identity = np.arange(48) // (1 if images == 1 else 6)
sampler = IdentitySampler(identity, images_per_step=16, steps=steps, stages=((0.0, images),), seed=0)
views = ViewSettings(local_views=0 if kind == "moco" else 2)
cutter = views.build(height=64, width=32, local_height=32, local_width=32)
schedule = Schedule(
    steps=steps, lr=1e-3, final_lr=1e-4, warmup_steps=1, weight_decay=0.04, final_weight_decay=0.4, clip=3.0
)
with parallel.process_group(device) as (rank, world):
    torch.manual_seed(0)
    backbone = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), patch_size=2)
    colours = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    share = {"distribute": parallel.wrap_ddp}
    if kind == "moco":
        network = Network(backbone, ProjectionHead(8, hidden=8, width=6), **colours).double()
        method = Moco(network, queue=40, **share)
    else:
        network = Network(backbone, DistillationHead(8, hidden=8, bottleneck=6, prototypes=12), **colours).double()
        method = Cion(network, IdentityDistillationLoss(12, weighting=kind).double(), steps=steps, **share)
    data = StepBatches(photos, identity, sampler, cutter, seed=0, rank=rank, world=world)
    rows = train(
        method, data, schedule, images_per_step=16, device=device, seed=0, folder=folder if rank == 0 else None,
        log_every=1, accumulate=accumulate,
    )
    if rank == 0:
        state = {f"{part}.{k}": v for part in ("student", "teacher") for k, v in method.state_dict()[part].items()}
        state["center or queue"] = method.queue if kind == "moco" else method.objective.center
        state["losses"] = torch.tensor([row["loss"] for row in rows], dtype=torch.float64)
        torch.save(state, folder / "end")
"""


def _end(folder: Path, processes: int, kind: str, images: int, accumulate: int = 1) -> dict[str, torch.Tensor]:
    folder.mkdir()
    script = folder / "run.py"
    script.write_text(_RUN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}"]
    arguments = [kind, str(images), str(folder), str(accumulate)]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "end", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "images"), [("equation", 4), ("official", 4), ("equation", 1), ("moco", 1)])
def test_two_processes_are_one(tmp_path: Path, kind: str, images: int) -> None:
    one = _end(tmp_path / "one", 1, kind, images)
    two = _end(tmp_path / "two", 2, kind, images)
    parts = _end(tmp_path / "parts", 2, kind, images, accumulate=2)
    assert len(one["losses"]) == 4
    assert one["losses"].std() > 1e-4
    for other in (two, parts):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
