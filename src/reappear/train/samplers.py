"""Samplers: the images of each training step, as pure functions of the seed and the step."""

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from reappear.core import ImageTable, InputError, SettingsError, counted, generator, lengths_to_offsets
from reappear.models.clips import Compat, clip_positions

from .schedule import Stages, require_stages, stage


@runtime_checkable
class Sampler(Protocol):
    """Chooses the images of each step, over all processes."""

    images_per_step: int

    @property
    def identities_per_step(self) -> list[int]:
        """The numbers of identities that steps have."""
        ...

    def groups(self, step: int) -> Int[np.ndarray, "ids images"]:
        """Rows of the images of a step, a row per identity."""
        ...


class _Passes:
    """Passes over the data: the last two are kept, and go to no worker process."""

    _make_pass: Callable[..., Int[np.ndarray, "..."]]

    @cached_property
    def _pass(self) -> Callable[..., Int[np.ndarray, "..."]]:
        return lru_cache(maxsize=2)(self._make_pass)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_pass"}


class IdentitySampler(_Passes):
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
        place: Of each image, such as its camera; where given, the groups of a step begin at one place, as far as its
            images go.
    """

    def __init__(
        self,
        identity: Int[np.ndarray, " n"],
        *,
        images_per_step: int,
        steps: int,
        stages: Stages,
        seed: int,
        place: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        _require_identities(identity)
        require_stages(stages, images_per_step)
        self.images_per_step = images_per_step
        self._steps, self._stages, self._seed = steps, tuple(stages), seed
        self._place = place
        self._by_identity = np.argsort(identity, kind="stable")
        self._counts = np.unique(identity, return_counts=True)[1]

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
        made = shuffled[source].reshape(-1, images)[random.permutation(len(source) // images)]
        if self._place is not None:
            made = made[self._by_place(self._place[made[:, 0]], self.images_per_step // images, number, random)]
        return np.asarray(made, np.int64)

    @staticmethod
    def _by_place(
        place: Int[np.ndarray, " groups"], ids: int, number: int, random: np.random.Generator
    ) -> Int[np.ndarray, " groups"]:
        """Order of the groups of a pass in which steps, of `ids` groups, have one place each, in random order."""
        order = np.roll(np.argsort(place, kind="stable"), random.integers(len(place)))
        first = -number * len(place) % ids  # groups of this pass that its predecessor's last step takes
        steps = np.split(order, np.arange(first, len(order), ids)) if first < len(order) else [order]
        whole = [part for part in steps[1:] if len(part) == ids]
        rest = steps[1 + len(whole) :]
        return np.concatenate([steps[0], *(whole[i] for i in random.permutation(len(whole))), *rest])


class PKSampler(_Passes):
    """P identities with K images of each: the batches of triplet losses (Hermans et al. 2017).

    A pure function of the seed and the step. In one pass over the data each identity's images are shuffled and cut into
    groups of K; an identity with fewer than K images gives one group with repetitions. The groups are dealt to steps in
    such a way that no step has an identity twice (consecutive groups go to consecutive steps), so an identity gives at
    most one group to each step of the pass, and fewer than P groups are left over. The field's usual sampler draws
    identities greedily instead; it has the same groups and steps without repeated identities.

    Args:
        identity: Of each image, 0 or more.
        identities: P, over all processes.
        images: K.
        seed: Of the run.
        camera: Of each image; where given, a group takes images of different cameras as far as there are any.
    """

    def __init__(
        self,
        identity: Int[np.ndarray, " n"],
        *,
        identities: int,
        images: int,
        seed: int,
        camera: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        _require_identities(identity)
        for name, value in (("identities", identities), ("images", images)):
            if value < 1:
                raise SettingsError(f"{name}: must be 1 or more, got {value}")
        self._people, self._identity, counts = np.unique(identity, return_inverse=True, return_counts=True)
        if len(counts) < identities:
            raise InputError(_too_few(len(counts), identities, images))
        self.images_per_step = identities * images
        self._ids, self._images, self._seed = identities, images, seed
        self._camera = np.zeros(len(identity), np.int64) if camera is None else camera
        self._groups = np.maximum(counts // images, 1)  # of each identity in a pass
        steps = int(self._groups.sum()) // identities
        while np.minimum(self._groups, steps).sum() < steps * identities:
            steps = int(np.minimum(self._groups, steps).sum()) // identities
        self._groups = np.minimum(self._groups, steps)
        self.steps_per_pass = steps

    @property
    def identities_per_step(self) -> list[int]:
        """P."""
        return [self._ids]

    def groups(self, step: int) -> Int[np.ndarray, "ids images"]:
        """Rows of the images of a step, a row per identity; all identities differ."""
        number, within = divmod(step, self.steps_per_pass)
        return np.asarray(self._pass(number)[within])

    def _make_pass(self, number: int) -> Int[np.ndarray, "steps ids images"]:
        random = generator(self._seed, "sampler", number)
        draw = random.random(len(self._identity))
        # Within an identity: the k-th images of all its cameras before the (k+1)-th of any, each in random order.
        order = np.lexsort((draw, self._camera, self._identity))
        same = np.flatnonzero(np.diff(self._identity[order]) | np.diff(self._camera[order])) + 1
        begins = np.r_[0, same]
        turn = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
        if np.ptp(self._camera):
            order = order[np.lexsort((draw[order], turn, self._identity[order]))]
        first = lengths_to_offsets(np.bincount(self._identity))
        people = random.permutation(len(self._groups))  # in this order their groups are dealt
        groups = self._groups[people]
        starts = lengths_to_offsets(groups)
        person = np.repeat(people, groups)
        within = (np.arange(starts[-1]) - np.repeat(starts[:-1], groups))[:, None] * self._images
        slot = within + np.arange(self._images)
        size = np.diff(first)[person][:, None]
        rows = order[first[person][:, None] + slot % size]
        kept = rows[: self.steps_per_pass * self._ids].reshape(self._ids, self.steps_per_pass, self._images)
        return np.asarray(kept.transpose(1, 0, 2)[random.permutation(self.steps_per_pass)], np.int64)


class PairSampler(_Passes):
    """Pairs of tracklets of one person, from two cameras where there are (GRL, public code).

    A pure function of the seed and the step. In one pass each tracklet is the first of one pair; the second is drawn
    from those of the same person in other cameras, else from the others of that person, else it is the same one. A
    step may have several pairs of one person.

    Args:
        identity: Of each tracklet, 0 or more.
        camera: Of each tracklet.
        pairs: Of a step, over all processes.
        seed: Of the run.
    """

    def __init__(
        self, identity: Int[np.ndarray, " n"], camera: Int[np.ndarray, " n"], *, pairs: int, seed: int
    ) -> None:
        _require_identities(identity)
        people, self._identity = np.unique(identity, return_inverse=True)
        if len(people) < 2:
            raise InputError("tracklets of one person alone cannot be told apart; give two people or more")
        self.images_per_step = 2 * pairs
        self._camera, self._pairs, self._seed = camera, pairs, seed
        order = np.argsort(self._identity, kind="stable")
        self._tracklets = np.split(order, np.cumsum(np.bincount(self._identity))[:-1])

    @property
    def identities_per_step(self) -> list[int]:
        """Pairs of a step."""
        return [self._pairs]

    def groups(self, step: int) -> Int[np.ndarray, "pairs 2"]:
        """The tracklets of a step, a row per pair."""
        number, within = np.divmod(step * self._pairs + np.arange(self._pairs), len(self._identity))
        first = [int(self._pass(n)[i]) for n, i in zip(number.tolist(), within.tolist(), strict=True)]
        random = generator(self._seed, "partners", step)
        return np.array([[one, self._partner(one, random)] for one in first], np.int64)

    def _partner(self, one: int, random: np.random.Generator) -> int:
        mine = self._tracklets[self._identity[one]]
        elsewhere = mine[self._camera[mine] != self._camera[one]]
        others = elsewhere if len(elsewhere) else mine[mine != one]
        return int(random.choice(others)) if len(others) else one

    def _make_pass(self, number: int) -> Int[np.ndarray, " n"]:
        return generator(self._seed, "sampler", number).permutation(len(self._identity))


class Tracklets:
    """Where the frames of tracklets are in a table.

    A tracklet is what has one identity, camera and `sequence`; tracklets are numbered in this order. Frames are in the
    order of `frame`, then of rows.

    Args:
        table: Every image has a sequence.

    Raises:
        InputError: One has none.
    """

    def __init__(self, table: ImageTable) -> None:
        if len(table) and table.sequence.min() < 0:
            raise InputError("clips need the tracklet of every image; the set gives none for some")
        self.order = np.lexsort((table.frame, table.sequence, table.camera, table.identity)).astype(np.int64)
        keys = np.stack([table.identity, table.camera, table.sequence])[:, self.order]
        self.begins = np.flatnonzero(np.r_[True, (np.diff(keys) != 0).any(0)][: len(table)])
        self.lengths = np.diff(np.r_[self.begins, len(table)])
        self.first = self.order[self.begins]  # row of the first frame of each

    def __len__(self) -> int:
        return len(self.begins)

    def rows(self, tracklet: int) -> Int[np.ndarray, " n"]:
        """Rows of all frames of a tracklet."""
        return self.order[self.begins[tracklet] :][: self.lengths[tracklet]]


class ClipSampler:
    """P identities with K clips of each, from different cameras as far as there are any; T frames a clip.

    Tracklets are sampled as images are by `PKSampler`, or as pairs by `PairSampler`. A clip takes one frame from each
    of T equal parts of its tracklet, at random; see `clip_positions`.

    Args:
        table: Where tracklets are; see `Tracklets`.
        identities: P; with `pairs`, how many of them.
        clips: K.
        frames: T.
        seed: Of the run.
        pairs: Tracklets come in pairs, so K is 2.
        compat: How tracklets are cut into parts.
    """

    def __init__(
        self,
        table: ImageTable,
        *,
        identities: int,
        clips: int,
        frames: int,
        seed: int,
        pairs: bool = False,
        compat: Compat = "fixed",
    ) -> None:
        if frames < 1:
            raise SettingsError(f"frames: must be 1 or more, got {frames}")
        if pairs and clips != 2:
            raise SettingsError(f"clips: must be 2 where they come in pairs, got {clips}")
        self._of = Tracklets(table)
        identity, camera = table.identity[self._of.first], table.camera[self._of.first]
        self._tracklets: Sampler = (
            PairSampler(identity, camera, pairs=identities, seed=seed)
            if pairs
            else PKSampler(identity, identities=identities, images=clips, seed=seed, camera=camera)
        )
        self._frames, self._seed, self._compat = frames, seed, compat
        self.images_per_step = identities * clips * frames

    @property
    def identities_per_step(self) -> list[int]:
        """P."""
        return self._tracklets.identities_per_step

    def groups(self, step: int) -> Int[np.ndarray, "ids images"]:
        """Rows of the images of a step, clip after clip in each row."""
        frames = self.frames(step)
        return np.asarray(frames.reshape(len(frames), -1))

    def frames(self, step: int) -> Int[np.ndarray, "ids clips time"]:
        """Rows of the frames of a step."""
        tracklets = self._tracklets.groups(step)
        place = generator(self._seed, "frames", step).random((*tracklets.shape, self._frames))
        position = clip_positions(self._of.lengths[tracklets], place, self._compat)
        return np.asarray(self._of.order[self._of.begins[tracklets][..., None] + position], np.int64)


def _too_few(there: int, identities: int, images: int) -> str:
    """The message about a step of more identities than there are, with values that fit."""
    found = (
        f"a step has {counted(identities, 'identity')} with {counted(images, 'image')} of each, but the set has {there}"
    )
    if there < 2:
        return f"{found}; give a set with two identities or more"
    total = identities * images
    more = next(k for k in range(images + 1, total + 1) if total % k == 0 and total // k <= there)
    fits = f"{found}; give --images-per-step {there * images} or a smaller multiple of {images}"
    return fits + (f", or --method.images {more}" if total // more >= 2 else "")


def _require_identities(identity: Int[np.ndarray, " n"]) -> None:
    if len(identity) == 0:
        raise InputError("there are no images to train on")
    if identity.min() < 0:
        raise InputError("images without an identity must be left out before training")
