from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from reappear.core import InputError, SettingsError

from .chunked import ChunkedCrossEntropy, ChunkedPrototypeCrossEntropy, FusedPrototypeCrossEntropy

Weighting = Literal["equation", "official"]

_CACHED = ("cpu",)  # devices on which the cache decides the speed, not the number of launches


class IdentityDistillationLoss(nn.Module):
    """Identity-guided self-distillation: every image of a person is a target for every other (CION, Eq. 8-9).

    For teacher views `g` of image `i` and student views `v` of image `j` of one identity, the loss is the mean of
    `H(T_g(x_i), S_v(x_j))` over all ordered pairs of images, except the same view of the same image.

    Closed form: H is linear in the teacher's distribution, so a student row needs its log-partition and one sum C of
    all its target distributions: with `z` its logits over its temperature,
    `sum_T H(T, z) = |C| logsumexp(z) - C . z`, where `|C|` is their number. C is a sum per identity, less the excluded
    pairs. The last layer is linear, `z = W v / tau_s`, so `C . z = (C W) . v / tau_s`: `at_bottleneck` projects the few
    teacher distributions back through the prototypes and never stores the student's logits. Time and memory do not
    grow with the images per identity. With one image per identity it is DINO's loss.

    `weighting` sets the weight of each pair:

    - `"equation"`: Eq. 9 to the letter, every pair the same.
    - `"official"`: as the public code has it. A student view is never compared with the teacher's view of the same
      number, not even across images; pairs of one image together weigh `1 / (N (N - 1) + 1)` for `N` images.

    Args:
        prototypes: Width of the logits (K).
        student_temperature: tau_s, above 0.
        teacher_temperature: tau_t, above 0.
        center_momentum: Momentum of the centre (Eq. 8), in [0, 1].
        weighting: See above.
    """

    center: Float[Tensor, " k"]

    def __init__(
        self,
        prototypes: int,
        *,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
        weighting: Weighting = "equation",
    ) -> None:
        super().__init__()
        if prototypes < 2:
            raise SettingsError(f"prototypes: must be 2 or more, got {prototypes}")
        for name, value in (("student_temperature", student_temperature), ("teacher_temperature", teacher_temperature)):
            if not value > 0:
                raise SettingsError(f"{name}: must be above 0, got {value}")
        if not 0 <= center_momentum <= 1:
            raise SettingsError(f"center_momentum: must lie in 0..1, got {center_momentum}")
        if weighting not in ("equation", "official"):
            raise SettingsError(f"weighting: must be equation or official, got {weighting!r}")
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.center_momentum = center_momentum
        self.weighting = weighting
        self.register_buffer("center", torch.zeros(prototypes))

    def distribution(
        self, teacher: Float[Tensor, "*rows k"], *, temperature: float | None = None
    ) -> Float[Tensor, "*rows k"]:
        """Teacher distribution: softmax of its centred logits over the teacher temperature."""
        return torch.softmax((teacher - self.center) / (temperature or self.teacher_temperature), dim=-1)

    def forward(
        self,
        student: Float[Tensor, "views ids images k"],
        teacher: Float[Tensor, "globals ids images k"],
        *,
        teacher_temperature: float | None = None,
    ) -> Float[Tensor, ""]:
        """The loss in nats per pair, from logits. Does not move the centre.

        Args:
            student: Logits. The first views are those that the teacher saw.
            teacher: Logits; no gradient flows into them.
            teacher_temperature: In place of the one given at construction, for a schedule.
        """
        pairs = self._pairs(student, teacher, student.shape[-1])
        kinds = min(len(student), len(teacher) + 1)  # student-only views have the same targets
        return torch.as_tensor(
            ChunkedCrossEntropy.apply(
                student,
                self._sum_targets(self.distribution(teacher.detach(), temperature=teacher_temperature), kinds),
                self._weight(student, teacher),
                self.student_temperature,
                pairs,
                len(teacher),
            )
        )

    def at_bottleneck(
        self,
        student: Float[Tensor, "views ids images d"],
        prototypes: Float[Tensor, "k d"],
        teacher: Float[Tensor, "globals ids images k"],
        *,
        teacher_temperature: float | None = None,
    ) -> Float[Tensor, ""]:
        """The same loss from the input of the student's last layer, which is weight-normalised: logits are cosines.

        Args:
            student: Unit bottleneck vectors. The first views are those that the teacher saw.
            prototypes: Rows of the student's last layer; only their directions count. Gradient flows into them.
            teacher: Logits; no gradient flows into them.
            teacher_temperature: In place of the one given at construction, for a schedule.
        """
        pairs = self._pairs(student, teacher, len(prototypes))
        with torch.autocast(student.device.type, enabled=False):  # logits reach 1 / tau_s: half precision is too coarse
            vectors = student.to(prototypes.dtype) / self.student_temperature
            target = self.distribution(teacher.detach().to(prototypes.dtype), temperature=teacher_temperature)
            if student.device.type not in _CACHED:
                per_view = self._weight(student, teacher)
                return torch.as_tensor(
                    FusedPrototypeCrossEntropy.apply(vectors, prototypes, target, per_view, pairs, self._sum_targets)
                )
            partition, projected = ChunkedPrototypeCrossEntropy.apply(
                vectors.flatten(0, 2), prototypes, target.flatten(0, 2)
            )
            weight = self._sum_targets(torch.ones_like(target[..., :1]), len(student))
            target_sum = self._sum_targets(projected.view(*target.shape[:3], -1), len(student))
            total = (weight.flatten() * partition).sum() - (target_sum * vectors).sum()
            return torch.as_tensor(total / pairs)

    def _pairs(self, student: Tensor, teacher: Tensor, width: int) -> int:
        """Checks the shapes; returns the number of pairs that the loss is averaged over."""
        views, ids, images, _ = student.shape
        seen = len(teacher)
        if not 1 <= seen <= views or not width == teacher.shape[-1] == len(self.center):
            raise InputError(
                f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} do not fit: the teacher sees the "
                f"student's first views, and logits are {len(self.center)} wide"
            )
        if views == 1 and images == 1:
            raise InputError("one view of one image has nothing to be compared with; give 2 views or 2 images")
        if self.weighting == "equation":
            return ids * seen * images * (views * images - 1)
        if views == 1:
            raise InputError("the official weighting leaves out equal views, so it needs 2 views or more")
        return ids * (images * (images - 1) + 1) * seen * (views - 1)

    def _weight(self, student: Tensor, teacher: Tensor) -> list[float]:
        """Of each view of the student: how many targets a row of it has, on the host."""
        ones = torch.ones(len(teacher), 1, teacher.shape[2], 1, dtype=torch.float64)
        return list(self._sum_targets(ones, len(student))[:, 0, 0, 0].tolist())

    def _sum_targets(
        self, rows: Float[Tensor, "given ids images x"], views: int
    ) -> Float[Tensor, "views ids images x"]:
        """Per student row, the weighted sum of the teacher rows that are its targets.

        Linear, so it applies to distributions, their projections and their counts alike; and symmetric: of all student
        rows, with the number of the teacher's views, it is the sum per teacher row of the rows that it is a target of.
        """
        given, ids, images, width = rows.shape
        shape = (views, ids, images, width)
        seen = min(given, views)
        total_rows = rows.sum((0, 2), keepdim=True)
        if self.weighting == "equation":
            out = total_rows.expand(shape).clone()
            out[:seen].sub_(rows[:seen])
            return out
        less = 1 - 1 / images  # a pair of one image weighs 1 / N of a pair of two
        out = (total_rows - less * rows.sum(0, keepdim=True)).expand(shape).clone()
        rows = rows[:seen]
        out[:seen].sub_(rows.sum(2, keepdim=True) - less * rows)
        return out

    @torch.no_grad()
    def update_center(self, teacher: Float[Tensor, "globals ids images k"]) -> None:
        """Moves the centre towards the mean of the teacher's raw logits over all processes (Eq. 8)."""
        mean = teacher.mean(dim=(0, 1, 2))
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(mean)
            mean = mean / dist.get_world_size()
        self.center.lerp_(mean.to(self.center.dtype), 1 - self.center_momentum)
