"""What a training method is: its networks, its loss, and the updates after a step."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from reappear.core import SettingsError
from reappear.models.embedder import Embedder

from . import parallel
from .batch import Batch
from .datasets import StepDataset
from .metrics_log import Row
from .optimizer import ParameterGroup, decay_groups
from .settings import Keep

Labels = dict[str, np.ndarray]
BatchT = TypeVar("BatchT", bound=Batch)


@dataclass(frozen=True)
class StepResult:
    """What a step, or a part of it, gives.

    Attributes:
        loss: Its mean over the batch.
        metrics: Called for the steps that are logged, after the step's updates.
    """

    loss: Float[Tensor, ""]
    metrics: Callable[[], Row] = dict


@dataclass(frozen=True)
class Phase:
    """Steps of a training whose batches come from one dataset with one set of labels.

    Attributes:
        first: Its first step.
        end: The first step after it.
        data: The batch of each step, by the number of the step in the whole training.
        labels: What `data` was made with and cannot be made again from the settings, such as the clusters of an epoch;
            kept with each checkpoint.
    """

    first: int
    end: int
    data: StepDataset
    labels: Labels = field(default_factory=dict)


class Task(Generic[BatchT]):
    """Base of training methods. A method overrides `phase`, `training_step`, and what of the rest differs.

    Attributes:
        student: What the optimiser trains.
        teacher: Its moving average, if the method has one.
    """

    student: nn.Module
    teacher: nn.Module | None = None

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """The phase that a step belongs to; called at its first step, and when a training is resumed inside it.

        In several processes each must return the same labels.

        Args:
            step: Of the whole training.
            labels: Those of the phase, from the checkpoint that the training is resumed from; None where they are to
                be made from the present state.
        """
        raise NotImplementedError

    def training_step(self, batch: BatchT, step: int) -> StepResult:
        """The loss of a step, or of one of the equal parts of it, in the forward pass."""
        raise NotImplementedError

    @cached_property
    def distributed(self) -> nn.Module:
        """The student as training steps call it, so that gradients are averaged over processes."""
        return parallel.wrap_ddp(self.student)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters of the student with their weight decay and relative learning rate."""
        return decay_groups(self.student.named_parameters())

    def is_frozen(self, parameter: str, step: int) -> bool:
        """Whether a parameter of the student is not updated in this step."""
        return False

    def no_sync(self) -> AbstractContextManager[None]:
        """Context in which gradients are not averaged over processes: all parts of a step but the last."""
        return parallel.no_sync(self.distributed)

    def after_step(self, step: int) -> None:
        """Runs after the optimiser's step, such as the update of a teacher."""

    def on_step_skipped(self) -> None:
        """Runs in place of `after_step` when the loss or a gradient is not finite: forgets the step.

        Batch norm statistics of student and teacher are restored already.
        """

    def warnings(self, rows: list[Row]) -> list[str]:
        """What the rows of metrics.jsonl show to be wrong with a training that ended, and what to do."""
        return []

    @property
    def backbone(self) -> nn.Module:
        """The student's backbone."""
        network: Any = self.student
        return cast(nn.Module, network.backbone)

    def export(self, keep: Keep) -> Embedder:
        """What is validated and saved; it follows the training.

        Raises:
            SettingsError: The method has no teacher.
        """
        network: Any = self.student if keep == "student" else self.teacher
        if network is None:
            raise SettingsError(f"keep: {type(self).__name__.lower()} has no teacher; take student")
        return cast(Embedder, network.embedder())

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: tensors and plain values."""
        state = {"student": self.student.state_dict()}
        return state if self.teacher is None else {**state, "teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.student.load_state_dict(state["student"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
