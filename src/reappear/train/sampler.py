"""Identity sampler: the images of each training step."""

from functools import lru_cache

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, generator, lengths_to_offsets

from .schedule import Stages, require_stages, stage


class IdentitySampler:
    """A fixed number of images per step, as groups of `N_id` images of one identity.

    A pure function of the seed and the step. In one pass over the data, each identity's images are shuffled, cut into
    groups of `N_id`, and the last group is filled up with images of the same identity, repeated as late as possible. So
    each pass has every image, no group mixes identities, and passes follow without a gap. Each stage of the curriculum
    begins a new pass.

    Args:
        identity: Of each image, 0 or more.
        images_per_step: Over all processes; a multiple of every stage's `N_id`.
        steps: Of the whole training.
        stages: The curriculum, see `schedule.stage`.
        seed: Of the run.
    """

    def __init__(
        self, identity: Int[np.ndarray, " n"], *, images_per_step: int, steps: int, stages: Stages, seed: int
    ) -> None:
        if len(identity) == 0:
            raise InputError("there are no images to train on")
        if identity.min() < 0:
            raise InputError("images without an identity must be left out before training")
        require_stages(stages, images_per_step)
        self.images_per_step = images_per_step
        self._steps, self._stages, self._seed = steps, tuple(stages), seed
        self._by_identity = np.argsort(identity, kind="stable")
        self._counts = np.unique(identity, return_counts=True)[1]
        self._pass = lru_cache(maxsize=2)(self._make_pass)

    @property
    def identities_per_step(self) -> list[int]:
        """How many identities a step of each stage has."""
        return [self.images_per_step // images for _, images in self._stages]

    def images_per_identity(self, step: int) -> int:
        """N_id at a step."""
        return stage(step, steps=self._steps, stages=self._stages)[0]

    def groups(self, step: int) -> Int[np.ndarray, "ids images"]:
        """The images of a step, a row per identity."""
        images, first = stage(step, steps=self._steps, stages=self._stages)
        ids = self.images_per_step // images
        per_pass = int(np.sum(-(-self._counts // images)))
        wanted = (step - first) * ids + np.arange(ids)
        rounds = wanted // per_pass
        parts = [self._pass(images, int(r))[wanted[rounds == r] % per_pass] for r in np.unique(rounds)]
        return np.asarray(np.concatenate(parts), np.int64)

    def _make_pass(self, images: int, number: int) -> Int[np.ndarray, "groups images"]:
        """All groups of one pass in random order."""
        random = generator(self._seed, "sampler", images, number)
        identities = np.repeat(np.arange(len(self._counts)), self._counts)
        # Shuffled inside each identity, in one sort for all.
        shuffled = self._by_identity[np.lexsort((random.random(len(identities)), identities))]
        groups = -(-self._counts // images)
        slots = groups * images
        ends = lengths_to_offsets(slots)
        within = np.arange(ends[-1]) - np.repeat(ends[:-1], slots)
        source = np.repeat(lengths_to_offsets(self._counts)[:-1], slots) + within % np.repeat(self._counts, slots)
        order = random.permutation(len(source) // images)
        return np.asarray(shuffled[source].reshape(-1, images)[order], np.int64)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_pass"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._pass = lru_cache(maxsize=2)(self._make_pass)
