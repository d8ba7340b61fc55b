import subprocess
import sys

import pytest
import torch
from torch import nn

from reappear.core import SettingsError
from reappear.train import parallel

CPU = torch.device("cpu")


def test_alone_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    network = nn.Linear(2, 2)
    with parallel.process_group(CPU) as (rank, world):
        assert (rank, world) == (0, 1)
        assert parallel.wrap_ddp(network) is network
        assert parallel.convert_sync_batchnorm(network, CPU) is network


TORCHRUN = {
    "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"
}  # fmt: skip


def test_torchrun_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert parallel.torchrun_environment() == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORLD_SIZE", "abc"), ("WORLD_SIZE", ""), ("WORLD_SIZE", "0"), ("WORLD_SIZE", "-2"), ("WORLD_SIZE", "2.0"),
        ("RANK", "2"), ("RANK", "x"), ("RANK", None), ("LOCAL_RANK", "5"), ("LOCAL_RANK", None),
        ("MASTER_PORT", "99999"), ("MASTER_PORT", None), ("MASTER_ADDR", None),
    ],
)  # fmt: skip
def test_torchrun_environment_is_checked(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    for key, good in {**TORCHRUN, name: value}.items():
        monkeypatch.delenv(key, raising=False)
        if good is not None:
            monkeypatch.setenv(key, good)
    with pytest.raises(SettingsError, match=f"^{name}: ") as caught, parallel.process_group(CPU):
        pass
    assert "\n" not in str(caught.value)


_TWO = """
import torch
from torch import nn
from reappear.losses import IdentityDistillationLoss
from reappear.train import parallel
device = torch.device("cpu")
with parallel.process_group(device) as (rank, world):
    assert world == 2
    assert parallel.mean_over_processes(torch.tensor([float(rank), 3.0])).tolist() == [0.5, 3.0]
    assert parallel.broadcast_text("folder" if rank == 0 else None) == "folder"
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    shared = parallel.wrap_ddp(network)
    shared(torch.full((1, 1), float(rank + 1))).sum().backward()
    assert network.weight.grad.item() == 1.5
    loss = IdentityDistillationLoss(2, center_momentum=0.0)
    loss.update_center(torch.full((1, 1, 1, 2), float(rank)))
    assert loss.center.tolist() == [0.5, 0.5]
"""


@pytest.mark.slow
def test_two_processes_share_flags_words_gradients_and_the_center(tmp_path) -> None:
    script = tmp_path / "two.py"
    script.write_text(_TWO)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
