import pytest
import torch
from torch import nn

from reappear.train.teacher import update_teacher


def _pair() -> tuple[nn.Module, nn.Module]:
    networks = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2)]
    for network in networks:
        network(torch.randn(8, 3))
    return networks[0], networks[1]


def test_weights_move_by_the_momentum() -> None:
    teacher, student = _pair()
    before = [p.detach().clone() for p in teacher.parameters()]
    update_teacher(teacher, student, momentum=0.75)
    for old, new, theirs in zip(before, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), 0.75 * old + 0.25 * theirs.detach())


@pytest.mark.parametrize(("buffers", "share"), [("own", 0.0), ("average", 0.25), ("copy", 1.0)])
def test_running_statistics_follow_the_buffers_setting(buffers: str, share: float) -> None:
    teacher, student = _pair()
    student(torch.randn(8, 3))
    before, theirs = teacher[1].running_mean.clone(), student[1].running_mean.clone()
    update_teacher(teacher, student, momentum=0.75, buffers=buffers)
    torch.testing.assert_close(teacher[1].running_mean, (1 - share) * before + share * theirs)
    assert int(teacher[1].num_batches_tracked) == (1 if buffers == "own" else 2)


def test_momentum_one_freezes_the_teacher() -> None:
    teacher, student = _pair()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    update_teacher(teacher, student, momentum=1.0)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])
