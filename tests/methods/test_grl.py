"""GRL's loss and updates, written out; what all methods must do is in `test_contract.py`."""

import copy

import pytest
import torch
from torch.nn import functional as F

from reappear.methods.grl.settings import GrlSettings
from reappear.methods.grl.task import Grl

from .setups import make_setup


def _task(pooling: str = "grl", **changes: object) -> Grl:
    return Grl(make_setup(GrlSettings(frames=2, pooling=pooling), images_per_step=16, **changes))


@pytest.mark.parametrize("pooling", ["grl", "average"])
def test_loss_is_the_sum_of_its_parts(pooling: str) -> None:
    task = _task(pooling)
    for memory in task.oim.values():
        drawn = torch.randn(memory.centroids.shape, generator=torch.Generator().manual_seed(1))
        memory.centroids.copy_(F.normalize(drawn, dim=-1))
    batch = task.phase(0, None).data[0]
    assert batch.clips.shape == (4, 2, 2, 3, 16, 8)
    identity = batch.identity.repeat_interleave(2)
    verifier = copy.deepcopy(task.student.head)
    frames, clip, memory = copy.deepcopy(task.student).clips(batch.clips.flatten(0, 1))

    def oim(vectors: torch.Tensor, who: torch.Tensor, table: str) -> torch.Tensor:
        return F.cross_entropy(30 * vectors @ task.oim[table].centroids.T, who)

    expected = oim(frames[:, 0], identity, "clip") / 2 + oim(frames[:, 1], identity, "clip") / 2
    expected = expected + oim(clip, identity, "clip")
    if pooling == "grl":
        expected = expected + oim(memory, identity, "memory")
    differences = torch.stack([(clip[2 * i] - clip[2 * j + 1]) ** 2 for i in range(4) for j in range(4)])
    same = torch.tensor([int(identity[2 * i] == identity[2 * j]) for i in range(4) for j in range(4)])
    logits = F.batch_norm(differences, None, None, training=True) @ verifier.classifier.weight.T
    expected = expected + 20 * F.cross_entropy(logits + verifier.classifier.bias, same)
    for i in range(8):
        distance = (clip - clip[i]).norm(dim=1)
        gap = distance[identity == identity[i]].max() - distance[identity != identity[i]].min()
        expected = expected + torch.log1p(torch.exp(gap)) / 8
    torch.testing.assert_close(task.training_step(batch, 0).loss, expected, rtol=1e-4, atol=1e-4)


def test_remembered_vectors_follow_clips_and_then_frames() -> None:
    task = _task()
    batch = task.phase(0, None).data[0]
    expected = copy.deepcopy(task.oim)
    with torch.no_grad():
        frames, clip, memory = copy.deepcopy(task.student).clips(batch.clips.flatten(0, 1))
    who = batch.identity.repeat_interleave(2).tolist()
    order = [(clip[i], who[i]) for i in range(8)] + [(frames[i, t], who[i]) for i in range(8) for t in range(2)]
    for table, vectors in (("clip", order), ("memory", [(memory[i], who[i]) for i in range(8)])):
        for vector, y in vectors:
            moved = 0.5 * expected[table].centroids[y] + 0.5 * vector
            expected[table].centroids[y] = moved / moved.norm()
    task.training_step(batch, 0)
    task.after_step(0)
    for table in ("clip", "memory"):
        torch.testing.assert_close(task.oim[table].centroids, expected[table].centroids, rtol=1e-4, atol=1e-5)


def test_parts_of_a_step_move_remembered_vectors_together() -> None:
    whole, parts = _task().student.eval(), _task()
    batch = parts.phase(0, None).data[0]
    with torch.no_grad():
        frames, clip, _ = whole.clips(batch.clips.flatten(0, 1))  # without the batch's statistics: parts differ in them
    expected, who = copy.deepcopy(parts.oim["clip"]), batch.identity.repeat_interleave(2)
    expected.update(clip, who)
    expected.update(frames.flatten(0, 1), who.repeat_interleave(2))
    parts.student.backbone.eval()
    for part in batch.split(2):
        parts.training_step(part, 0)
    parts.after_step(0)
    torch.testing.assert_close(parts.oim["clip"].centroids, expected.centroids, rtol=1e-4, atol=1e-5)


def test_learning_rates_of_backbone_and_correlation_map_are_half_of_the_others() -> None:
    task = _task()
    slow, fast = task.parameter_groups()
    assert (slow.lr_scale, fast.lr_scale, slow.decays, fast.decays) == (1.0, 2.0, True, True)
    names = {id(p): name for name, p in task.student.named_parameters()}
    assert {names[id(p)].split(".")[1] for p in slow.parameters} == {"network", "correlation"}
    after = {"forwards", "backwards", "memory_norm", "frame_norm", "attention", "norm", "classifier"}
    assert {names[id(p)].split(".")[1] for p in fast.parameters} == after
