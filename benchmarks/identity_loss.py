"""Eq. 9 in closed form, against its loops and against one log-softmax, forward and backward.

    python benchmarks/identity_loss.py [--prototypes 8192 65536] [--images 24] [--views 10] [--device cpu] [--quick]

One step's loss over `images` images in `views` views each, and its gradient: into the student's logits, or into its
bottleneck vectors and prototypes. Times are the shortest of some runs, N_id = 8 unless said. Compared are, in one run:

- `pair_loop`: Eq. 9 word for word, a cross entropy for each pair of views of two images of one identity;
- `view_loop`: a term for each pair of views, and in it one for each pair of places in a group, with a log-softmax each,
  which is how public code goes about it; weighting "official";
- `log_softmax`: one log-softmax over the student's logits; `layer_and_log_softmax`: with the last layer before it;
- `logits`, `bottleneck`: `IdentityDistillationLoss`, from the student's logits and from its bottleneck vectors.

The loops begin at logits and are compared with `logits`, which does too.

Memory is what is held at most while loss and gradients are made, less the gradients themselves, over the size of the
student's logits; measured in a fresh process. So it is what comes beyond logits and gradients for the forms that begin
at logits; the bottleneck form never holds the logits at all.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import measure
import torch
from torch import Tensor
from torch.nn import functional as F

from reappear.losses import IdentityDistillationLoss

TEACHER, STUDENT, SEEN, WIDTH, EACH = 0.04, 0.1, 2, 256, 8
AT_BOTTLENECK = ("bottleneck", "layer_and_log_softmax")


class Case:
    """Inputs of one size, and the loss in all its forms."""

    def __init__(self, prototypes: int, *, images: int, views: int, each: int, device: str, weighting: str) -> None:
        random = torch.Generator().manual_seed(0)

        def unit(*shape: int) -> Tensor:
            return F.normalize(torch.randn(*shape, generator=random), dim=-1).to(device)

        ids = images // each
        self.vectors = unit(views, ids, each, WIDTH).requires_grad_()
        self.layer = unit(prototypes, WIDTH).requires_grad_()
        self.student = (self.vectors @ self.layer.T).detach().requires_grad_()
        self.teacher = unit(SEEN, ids, each, WIDTH) @ self.layer.detach().T
        self.slope = torch.rand(self.student.shape, generator=random).to(device)
        self.loss = IdentityDistillationLoss(prototypes, weighting=weighting).to(device)

    def logits(self) -> Tensor:
        return self.loss(self.student, self.teacher)

    def bottleneck(self) -> Tensor:
        return self.loss.at_bottleneck(self.vectors, self.layer, self.teacher)

    def log_softmax(self) -> Tensor:
        return F.log_softmax(self.student / STUDENT, dim=-1)

    def layer_and_log_softmax(self) -> Tensor:
        return F.log_softmax(F.linear(self.vectors, F.normalize(self.layer, dim=-1)) / STUDENT, dim=-1)

    def pair_loop(self) -> Tensor:
        # Rows are taken apart once; taken one by one, each would cost a gradient of the size of the whole.
        student = [[person.unbind() for person in view.unbind()] for view in self.student.unbind()]
        people, each = range(self.student.shape[1]), range(self.student.shape[2])
        terms = []
        for p, i, j, g, v in itertools.product(people, each, each, range(SEEN), range(len(student))):
            if (i, g) != (j, v):
                said = F.softmax(self.teacher[g, p, i] / TEACHER, dim=-1)
                terms.append(-(said * F.log_softmax(student[v][p][j] / STUDENT, dim=-1)).sum())
        return torch.stack(terms).mean()

    def view_loop(self) -> Tensor:
        said = F.softmax(self.teacher / TEACHER, dim=-1)
        each = self.student.shape[2]
        terms = []
        for g, v in itertools.product(range(SEEN), range(len(self.student))):
            if g == v:
                continue
            view = self.student[v]
            total = (-said[g] * F.log_softmax(view / STUDENT, dim=-1)).sum(-1).mean()
            for i, j in itertools.permutations(range(each), 2):
                total = total + (-said[g][:, i] * F.log_softmax(view[:, j] / STUDENT, dim=-1)).sum(-1).mean()
            terms.append(total / (each * (each - 1) + 1))
        return torch.stack(terms).mean()

    def run(self, form: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value and gradients."""
        leaves = [self.vectors, self.layer] if form in AT_BOTTLENECK else [self.student]
        value = getattr(self, form)()
        gradients = torch.autograd.grad(value, leaves, self.slope if value.ndim else None)
        if self.student.is_cuda:
            torch.cuda.synchronize()
        return value.detach(), gradients

    def chained(self, form: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value and gradients of a form that begins at logits, taken on to the bottleneck and the prototypes."""
        value, (slope,) = self.run(form)
        flat = slope.flatten(0, 2)
        vectors = (flat @ self.layer).view(self.vectors.shape)
        rows = flat.T @ self.vectors.flatten(0, 2)
        rows = rows - (rows * self.layer).sum(1, keepdim=True) * self.layer  # of unit rows, across them
        return value, (vectors.detach(), rows.detach())


def difference(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """Largest difference over the largest value."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


def held(case: Case, form: str) -> float:
    """Bytes held at most while `form` runs, beyond its inputs and its gradients."""
    if case.student.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = float(torch.cuda.memory_allocated())
        _, gradients = case.run(form)
        peak = float(torch.cuda.max_memory_allocated())
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # from here on the peak is a new one
        before = resident("VmRSS")
        _, gradients = case.run(form)
        peak = resident("VmHWM")
    return peak - before - sum(gradient.numel() * gradient.element_size() for gradient in gradients)


def resident(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(status.split(f"{name}:")[1].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prototypes", type=int, nargs="+", default=[8192, 65536])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="K = 1,024 alone, nothing kept")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sizes: dict[str, Any] = {"images": asked.images, "views": asked.views, "device": asked.device}
    if asked.memory_of:
        case = Case(asked.prototypes[0], **sizes, each=EACH, weighting="equation")
        warm = Case(64, **sizes, each=EACH, weighting="equation")
        warm.run(asked.memory_of)  # libraries take their own memory at first use
        print(json.dumps({"bytes": held(case, asked.memory_of)}))
        return

    started_on = measure.machine()
    figures = {}
    for prototypes in [1024] if asked.quick else asked.prototypes:
        figures[f"prototypes_{prototypes}"] = one_size(prototypes, sizes, asked.repeats)
        print(json.dumps(figures[f"prototypes_{prototypes}"], indent=2))
    if not asked.quick:
        measure.keep("identity_loss" + ("" if asked.device == "cpu" else "_gpu"), figures | sizes, started_on)


def one_size(prototypes: int, sizes: dict[str, Any], repeats: int) -> dict[str, Any]:
    times: dict[str, float] = {}

    def race(case: Case, forms: tuple[str, ...], named: str = "{}") -> None:
        for _ in range(repeats):  # in turns, so that a busy moment hits all alike; twice, since what follows another
            for form in forms:  # form pays for the memory that the other gave back
                taken = measure.seconds(lambda form=form: case.run(form), 2)
                times[named.format(form)] = min(times.get(named.format(form), float("inf")), taken)

    def check(case: Case, loop: str) -> float:
        value, gradients = case.run("bottleneck")
        exact, exact_gradients = case.chained(loop)
        return difference((value, *gradients), (exact, *exact_gradients))

    agrees = {}
    case = Case(prototypes, **sizes, each=EACH, weighting="equation")
    race(case, ("log_softmax", "logits", "layer_and_log_softmax", "bottleneck", "pair_loop"))
    agrees["equation"] = check(case, "pair_loop")
    case = Case(prototypes, **sizes, each=2, weighting="equation")
    race(case, ("logits", "bottleneck"), "{}_of_2")
    case = Case(prototypes, **sizes, each=EACH, weighting="official")
    race(case, ("logits", "bottleneck", "view_loop"), "{}_official")
    agrees["official"] = check(case, "view_loop")
    student = case.student.numel() * case.student.element_size()
    del case

    flags = [f"--{name}={value}" for name, value in sizes.items()]
    memory = {
        form: measure.apart(f"--prototypes={prototypes}", *flags, f"--memory-of={form}")["bytes"] / student
        for form in ("log_softmax", "logits", "layer_and_log_softmax", "bottleneck")
    }
    return {
        "seconds": {name: round(value, 4) for name, value in times.items()},
        "pair_loop_over_logits": round(times["pair_loop"] / times["logits"], 1),
        "view_loop_over_logits": round(times["view_loop_official"] / times["logits_official"], 1),
        "logits_over_log_softmax": round(times["logits"] / times["log_softmax"], 2),
        "bottleneck_over_layer_and_log_softmax": round(times["bottleneck"] / times["layer_and_log_softmax"], 2),
        "of_8_over_of_2": {form: round(times[form] / times[f"{form}_of_2"], 3) for form in ("logits", "bottleneck")},
        "student_logits_mb": round(student / 1e6, 1),
        "held_over_student_logits": {name: round(value, 2) for name, value in memory.items()},
        "largest_relative_difference": agrees,
    }


if __name__ == "__main__":
    main()
