"""Checks of the settings of a training before anything runs."""

from typing import Any, cast

from reappear.methods.setup import build_network, choose_device, multi_crop
from reappear.models import ProjectionHead
from reappear.pipeline.validation import validation_table
from reappear.train.metrics_log import require_tracker
from reappear.train.parallel import torchrun_environment
from reappear.train.settings import BaseTrainSettings, TrainSettings


def check_training(settings: BaseTrainSettings) -> None:
    """Checks all that does not depend on the images: device, network, first weights, view sizes, validation, tracker.

    `pretrain` and `finetune` do so first, and `run` and `demo` before the steps that come before it, which may take
    hours.

    Raises:
        InputError: There is no such network, weights do not fit it, or no validation query has a match.
        MissingExtra: The tracker's package is not installed.
        SettingsError: A setting is out of range, or contradicts another.
    """
    torchrun_environment()
    choose_device(settings.device)
    require_tracker(settings.tracker)
    if settings.validation is not None:
        validation_table(settings.validation)
    if isinstance(settings, TrainSettings):
        multi_crop(settings)
    extended = cast(Any, settings).method.extended
    build_network(settings, lambda width: ProjectionHead(width, hidden=1), extended=extended)
