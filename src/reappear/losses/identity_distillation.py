from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from reappear.core import InputError, SettingsError

Weighting = Literal["equation", "official"]


class IdentityDistillationLoss(nn.Module):
    """Identity-guided self-distillation: every image of a person is taught by every other (CION, Eq. 8-9).

    For teacher views `g` of image `i` and student views `v` of image `j` of one identity, the loss is the mean of
    `H(T_g(x_i), S_v(x_j))` over all ordered pairs of images, except the same view of the same image. The sum over
    pairs needs only sums: with `z` the student's logits over its temperature,
    `sum H(T, S) = (number of T) * sum logsumexp(z) - (sum T) . (sum z)`, so its cost does not grow with the images per
    identity. With one image per identity it is DINO's loss.

    `weighting` says what a pair counts for:

    - `"equation"`: Eq. 9 to the letter, every pair the same.
    - `"official"`: as the public code has it. A student view is never compared with the teacher's view of the same
      number, not even across images; pairs of one image together weigh `1 / (N (N - 1) + 1)` for `N` images.

    Args:
        prototypes: Width of the logits (K).
        student_temperature: tau_s, above 0.
        teacher_temperature: tau_t, above 0.
        center_momentum: Share of the old centre that stays (Eq. 8), in [0, 1].
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
        """What the teacher says: its logits, centred and sharpened."""
        return torch.softmax((teacher - self.center) / (temperature or self.teacher_temperature), dim=-1)

    def forward(
        self,
        student: Float[Tensor, "views ids images k"],
        teacher: Float[Tensor, "globals ids images k"],
        *,
        teacher_temperature: float | None = None,
    ) -> Float[Tensor, ""]:
        """The loss in nats per pair. Does not move the centre.

        Args:
            student: Logits. The first views are those that the teacher saw.
            teacher: Logits; no gradient flows into them.
            teacher_temperature: In place of the one given at construction, for a schedule.
        """
        views, ids, images, width = student.shape
        seen = len(teacher)
        if not 1 <= seen <= views or width != len(self.center):
            raise InputError(
                f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} do not fit: the teacher sees the "
                f"student's first views, and logits are {len(self.center)} wide"
            )
        if views == 1 and images == 1:
            raise InputError("one view of one image has nothing to be compared with; give 2 views or 2 images")
        with torch.no_grad():
            target = self.distribution(teacher.detach(), temperature=teacher_temperature)
        logits = student / self.student_temperature
        partition = logits.logsumexp(dim=-1)

        everything = _cross_entropy(target.sum((0, 2)), seen * images, logits.sum((0, 2)), partition.sum((0, 2)))
        itself = _cross_entropy(target, 1, logits[:seen], partition[:seen])
        if self.weighting == "equation":
            return (everything - itself) / (ids * seen * images * (views * images - 1))

        if views == 1:
            raise InputError("the official weighting leaves out equal views, so it needs 2 views or more")
        same_image = _cross_entropy(target.sum(0), seen, logits.sum(0), partition.sum(0))
        same_view = _cross_entropy(target.sum(2), images, logits[:seen].sum(2), partition[:seen].sum(2))
        own = same_image - itself
        others = everything - same_image - same_view + itself
        return (own / images + others) / (ids * (images * (images - 1) + 1) * seen * (views - 1))

    @torch.no_grad()
    def update_center(self, teacher: Float[Tensor, "globals ids images k"]) -> None:
        """Moves the centre towards the mean of the teacher's raw logits over all processes (Eq. 8)."""
        mean = teacher.mean(dim=(0, 1, 2))
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(mean)
            mean = mean / dist.get_world_size()
        self.center.lerp_(mean.to(self.center.dtype), 1 - self.center_momentum)


def _cross_entropy(
    targets: Float[Tensor, "*rows k"],
    count: int,
    logits: Float[Tensor, "*rows k"],
    partition: Float[Tensor, "*rows"],
) -> Float[Tensor, ""]:
    """Sum of H(T, S) over all pairs of `count` target rows and the student rows, both given as sums per row."""
    return count * partition.sum() - (targets * logits).sum()
