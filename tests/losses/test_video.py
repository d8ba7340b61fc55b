"""Losses of GRL against their sums, written out vector by vector."""

import math

import torch

from reappear.losses import IdentityMemory, verification_loss


def _unit(n: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1)


def test_verification_is_the_loop_over_pairs() -> None:
    """Binary cross-entropy of the second of two softmax outputs; its gradient is their error."""
    logits = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    first, second = torch.tensor([5, 7, 9]), torch.tensor([7, 5, 5, 8])
    total, gradient = 0.0, torch.zeros_like(logits)
    for i in range(3):
        for j in range(4):
            same = float(first[i] == second[j])
            two, one = (math.exp(v) for v in logits[i, j].tolist())
            score = one / (two + one)
            total -= same * math.log(score) + (1 - same) * math.log(1 - score)
            gradient[i, j, 1] = (score - same) / 12
            gradient[i, j, 0] = (same - score) / 12
    value = verification_loss(logits, first, second)
    torch.testing.assert_close(value.item(), total / 12)
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], gradient)


def test_oim_is_a_memory_that_begins_at_zero() -> None:
    """OIM of GRL's public code: logits 30 x.LUT, LUT_y <- normalise(.5 LUT_y + .5 x), one vector after the other."""
    memory = IdentityMemory(3, 4, temperature=1 / 30, momentum=0.5).double()
    table = [[0.0] * 4 for _ in range(3)]
    for step in range(3):
        vectors, identity = _unit(5, step).requires_grad_(), torch.tensor([0, 2, 0, 0, 2])
        total, gradient = 0.0, torch.zeros(5, 4, dtype=torch.float64)
        for i, y in enumerate(identity.tolist()):
            x = vectors[i].tolist()
            scores = [30 * sum(a * b for a, b in zip(x, row, strict=True)) for row in table]
            partition = sum(math.exp(s) for s in scores)
            total -= math.log(math.exp(scores[y]) / partition) / 5
            for k in range(3):
                error = math.exp(scores[k]) / partition - (k == y)
                gradient[i] += 30 * error * torch.tensor(table[k], dtype=torch.float64) / 5
        loss = memory(vectors, identity)
        torch.testing.assert_close(loss.item(), total)
        torch.testing.assert_close(torch.autograd.grad(loss, vectors)[0], gradient)
        memory.update(vectors.detach(), identity)
        for i, y in enumerate(identity.tolist()):
            moved = [0.5 * a + 0.5 * b for a, b in zip(table[y], vectors[i].tolist(), strict=True)]
            length = math.sqrt(sum(v * v for v in moved))
            table[y] = [v / length for v in moved]
        torch.testing.assert_close(memory.centroids, torch.tensor(table, dtype=torch.float64))
    assert not memory.centroids[1].any()  # not seen yet
