"""Two processes with half a step's images each are one process with all of them.

In float64, to tell a fault from rounding, and without batch norm: its statistics are those of the images that a process
sees. PyTorch's synchronised batch norm, which makes them the whole step's, runs on GPUs alone.
"""

import os
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
from reappear.methods.cion.settings import CionSettings
from reappear.methods.grl.settings import GrlSettings
from reappear.methods.memory.settings import MemorySettings
from reappear.methods.moco.settings import MocoSettings
from reappear.methods.registry import spec_of
from reappear.methods.supcon.settings import SupConSettings
from reappear.methods.transreid.settings import TransReidSettings
from reappear.methods.setup import Setup
from reappear.methods.upreid.settings import IntraIdentityOption, UpReidSettings
from reappear.train import parallel
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule
from reappear.train.settings import TrainSettings
from reappear.train.views import ViewSettings
from tests.train.tables import make_table

kind, images, folder, accumulate = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
device, steps = torch.device("cpu"), 4
torch.set_num_threads(1)
photos = [np.random.default_rng(i).integers(0, 256, (80, 40, 3), dtype=np.uint8) for i in range(48)]
table = make_table(np.arange(48) // (1 if images == 1 else 6), sequence=np.arange(48) // 3)

class Double(Setup):
    def network(self, *args, **kwargs):
        return super().network(*args, **kwargs).double()

settings = TrainSettings(
    backbone="convnext_atto",
    arguments={"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8), "patch_size": 2},
    height=64, width=32, local_height=32, local_width=32,
    views=ViewSettings(local_views=0 if kind.startswith(("moco", "upreid")) else 2),
    steps=steps, images_per_step=16, lr=1e-3, final_lr=1e-4, warmup=0.25, log_every=1, accumulate=accumulate,
)
head = {"head_hidden": 8, "head_bottleneck": 6, "prototypes": 12, "head_batch_norm": False}
if kind == "moco":
    method = MocoSettings(head_hidden=8, head_width=6, queue=40)
elif kind.startswith("upreid"):
    method = UpReidSettings(
        head_hidden=8, head_width=6, queue=40, patch_head_width=6, patch_rows=2, global_warmup=0.0,
        mode="crop" if kind.endswith("crop") else "roi",
    )
elif kind.startswith("i2"):
    method = CionSettings(
        **head, curriculum=((0.0, images),), momentum=0.996, teacher_temperature=0.04,
        intra_identity=IntraIdentityOption(
            global_weight=1.0, local_weight=1.0, patch_rows=2, patch_head_width=6, global_warmup=0.0
        ),
    )
elif kind == "memory":
    method = MemorySettings(head_hidden=8, head_width=6, curriculum=((0.0, images),))
elif kind == "transreid":
    method = TransReidSettings(images=images)
elif kind == "grl":
    method = GrlSettings(frames=images)
elif kind.startswith("supcon"):
    queue = 40 if kind.endswith("queue") else 0
    method = SupConSettings(head_hidden=8, head_width=6, queue=queue, curriculum=((0.0, images),))
else:
    method = CionSettings(**head, curriculum=((0.0, images),), weighting=kind, momentum=0.996, teacher_temperature=0.04)
def run(rank):
    task = spec_of(method).build(Double(settings, method, photos, table, "found", steps, device))
    if isinstance(method, CionSettings):
        task.objective.double()
    if getattr(task, "centroids", None):
        task.centroids.memory.double()
    if kind == "grl":
        task.oim.double()
        for layer in task.student.backbone.modules():  # but for the verification, whose pairs are those of all
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.eval()
    rows = train(task, Schedule(steps, settings), settings, Run(folder if rank == 0 else None, device))
    if rank == 0:
        whole = task.state_dict()
        state = {f"{part}.{k}": v for part in whole.keys() & {"student", "teacher"} for k, v in whole[part].items()}
        if "queue" in whole:
            state["queue"] = whole["queue"]
        for part in whole.keys() & {"loss", "memory"}:
            state[part] = next(iter(whole[part].values()))
        state |= whole.get("oim", {})
        state["losses"] = torch.tensor([row["loss"] for row in rows], dtype=torch.float64)
        torch.save(state, folder / "end")

with parallel.process_group(device) as (rank, world):
    run(rank)
"""


def _end(folder: Path, processes: int, kind: str, images: int, accumulate: int = 1) -> dict[str, torch.Tensor]:
    folder.mkdir()
    script = folder / "run.py"
    script.write_text(_RUN)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    arguments = [kind, str(images), str(folder), str(accumulate)]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])},
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "end", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "images"),
    [
        ("equation", 4),
        ("official", 4),
        ("equation", 1),
        ("moco", 1),
        ("upreid", 1),
        ("upreid crop", 1),
        ("i2 cion", 4),
        ("supcon", 4),
        ("supcon queue", 2),
        ("memory", 4),
        ("transreid", 2),
        ("grl", 2),
    ],
)
def test_two_processes_are_one(tmp_path: Path, kind: str, images: int) -> None:
    one = _end(tmp_path / "one", 1, kind, images)
    two = _end(tmp_path / "two", 2, kind, images)
    # Parts of a step do not see each other's vectors: negatives of supcon, the batch of transreid's neck, pairs of grl.
    others = [two]
    if not kind.startswith(("supcon", "transreid", "grl")):
        others.append(_end(tmp_path / "parts", 2, kind, images, accumulate=2))
    assert len(one["losses"]) == 4
    assert one["losses"].std() > 1e-4
    for other in others:
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
