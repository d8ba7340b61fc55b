"""Schedules as pure functions of the step, so that a resumed run and a longer epoch change nothing."""

import math
from collections.abc import Sequence
from typing import Literal

from reappear.core import SettingsError


def cosine(step: int, *, steps: int, start: float, end: float) -> float:
    """From `start` at step 0 to `end` at step `steps`, along half a cosine.

    >>> [round(cosine(step, steps=4, start=1.0, end=0.0), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    share = min(1.0, step / steps) if steps > 0 else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


LrShape = Literal["cosine", "full-cosine", "late-cosine", "step", "constant"]


def learning_rate(
    step: int,
    *,
    steps: int,
    warmup: int,
    peak: float,
    end: float = 0.0,
    shape: LrShape = "cosine",
    falls: Sequence[float] = (),
) -> float:
    """Rises linearly to `peak` over `warmup` steps, then falls.

    The first step already learns: step 0 has `peak / warmup`, where DINO's has 0.

    Args:
        step: From 0.
        steps: Of the whole training.
        warmup: Steps of the rise.
        peak: Highest rate.
        end: At the end of the cosine.
        shape: Along a cosine to `end`, which begins after the rise, with the training ("full-cosine") or in its middle
            ("late-cosine"); to a tenth at each of `falls`; or not at all.
        falls: Shares of the training.

    >>> [learning_rate(step, steps=4, warmup=2, peak=1.0, end=0.0) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    >>> [learning_rate(step, steps=4, warmup=0, peak=1.0, shape="step", falls=(0.5, 0.75)) for step in range(4)]
    [1.0, 1.0, 0.1, 0.01]
    >>> [round(learning_rate(step, steps=4, warmup=1, peak=1.0, shape="full-cosine"), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    >>> [learning_rate(step, steps=4, warmup=1, peak=1.0, shape="late-cosine") for step in range(4)]
    [1.0, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    begins = {"cosine": warmup, "full-cosine": 0, "late-cosine": max(warmup, steps // 2)}
    if shape in begins:
        first = begins[shape]
        return cosine(max(0, step - first), steps=steps - first, start=peak, end=end)
    fallen = sum(step >= round(share * steps, 6) for share in falls) if shape == "step" else 0
    return peak / 10.0**fallen


def teacher_temperature(step: int, *, start: float, end: float, warmup: int) -> float:
    """From `start` to `end` in a line over `warmup` steps, then constant.

    >>> [round(teacher_temperature(step, start=0.02, end=0.04, warmup=2), 3) for step in range(4)]
    [0.02, 0.03, 0.04, 0.04]
    """
    return end if step >= warmup else start + (end - start) * step / warmup


Stages = Sequence[tuple[float, int]]


def stage(step: int, *, steps: int, stages: Stages) -> tuple[int, int]:
    """The curriculum stage of a step: its images per identity (N_id) and its first step.

    Args:
        step: From 0.
        steps: Of the whole training.
        stages: Where each stage begins, as a share of the training, and its images per identity. CION's:
            2, 4, 6, 8 from 0, 40, 60 and 80 %.

    >>> [stage(step, steps=10, stages=[(0, 2), (0.4, 4), (0.6, 6), (0.8, 8)])[0] for step in range(10)]
    [2, 2, 2, 2, 4, 4, 6, 6, 8, 8]
    """
    # Rounded first: 0.6 * 10 is a little more than 6 in floating point, and its ceiling would be 7.
    begun = [(math.ceil(round(share * steps, 6)), images) for share, images in stages]
    first, images = [entry for entry in begun if entry[0] <= step][-1]
    return images, first


def require_stages(stages: Stages, images_per_step: int) -> None:
    """Checks that a curriculum starts at 0, increases, and divides the images of a step."""
    shares = [share for share, _ in stages]
    if not shares or shares[0] != 0 or shares != sorted(set(shares)) or shares[-1] >= 1:
        raise SettingsError(f"curriculum: shares must start at 0, increase, and be below 1, got {shares}")
    for _, images in stages:
        if images < 1 or images_per_step % images:
            raise SettingsError(
                f"images_per_step: {images_per_step} is not a multiple of {images}, the images per identity of one "
                f"stage of the curriculum; take a multiple of {math.lcm(*(max(1, n) for _, n in stages))}"
            )
