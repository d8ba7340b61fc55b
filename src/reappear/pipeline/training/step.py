"""A training as a recorded step, in one or several processes."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

from reappear.core import SILENT, Progress, WorkspaceError
from reappear.methods.setup import build_network, choose_device, multi_crop
from reappear.models import ProjectionHead
from reappear.pipeline.contents import hash_files
from reappear.pipeline.record import Changed, Outcome, Record, Update, read_record, run_step
from reappear.pipeline.validation import Validation, validation_table
from reappear.store import FileHashes, find_weights, remove_scratch
from reappear.train import parallel
from reappear.train.metrics_log import require_tracker
from reappear.train.settings import BaseTrainSettings, TrainSettings

from .training import Training


def check_training(settings: BaseTrainSettings) -> None:
    """Checks all that does not depend on the images: device, network, first weights, view sizes, validation, tracker.

    `pretrain` and `finetune` do so first, and `run` and `demo` before the steps that come before it, which may take
    hours.

    Raises:
        InputError: There is no such network, weights do not fit it, or no validation query has a match.
        MissingExtra: The tracker's package is not installed.
        SettingsError: A setting is out of range, or contradicts another.
    """
    parallel.torchrun_environment()
    choose_device(settings.device)
    require_tracker(settings.tracker)
    if settings.validation is not None:
        validation_table(settings.validation)
    if isinstance(settings, TrainSettings):
        multi_crop(settings)
    extended = cast(Any, settings).method.extended
    build_network(settings, lambda width: ProjectionHead(width, hidden=1), extended=extended)


def file_inputs(settings: BaseTrainSettings, hashes: FileHashes) -> dict[str, str]:
    """Hashes of the files that settings name: first weights, and the validation set."""
    inputs: dict[str, str] = {}
    if settings.init is not None:
        init = find_weights(settings.init)
        init = init / "model.safetensors" if init.is_dir() else init
        inputs |= hash_files({"init": init}, hashes)
    if settings.validation is not None:
        inputs["validation"] = Validation.hash_folder(settings.validation, hashes)
    return inputs


def train_model(
    training: Training,
    folder: Path,
    *,
    step: str,
    inputs: Mapping[str, Path | str],
    decide: Callable[[Record], Changed] | None = None,
    progress: Progress,
) -> Record:
    """Runs a training once; the same in every process that torchrun started.

    A model that is replaced is kept beside the new one, as NAME-earlier1 and so on.

    Args:
        training: What is trained.
        folder: Of the model.
        step: Name of the step.
        inputs: See `run_step`.
        decide: What happens to a model of other inputs, see `Update`; it is refused if not given.
        progress: Progress listener.
    """
    with parallel.process_group(training.device) as (rank, world):
        if rank > 0:
            return _train_on_other_rank(training, folder)
        begun = False

        def train_in(staging: Path) -> Outcome:
            nonlocal begun
            begun = True
            if world > 1:
                parallel.broadcast_text(str(staging))
            return training.run(staging, progress)

        def release_ranks() -> None:
            """The other processes wait for a folder to work in, or for the end of what is in it."""
            if world > 1:
                parallel.broadcast_text("")

        try:
            if not folder.exists():
                check_training(training.settings)
            record = run_step(
                folder,
                step=step,
                settings=training.settings,
                inputs=inputs,
                work=train_in,
                clear=_clear if training.resume == "never" else None,
                update=None if decide is None else Update(decide, _clear, partial(_free_name, folder)),
                progress=progress,
            )
        except BaseException:
            if not begun:  # in the middle of a training they wait for another message, and torchrun ends them
                release_ranks()
            raise
        release_ranks()
        return record


def _free_name(folder: Path) -> str:
    names = (f"{folder.name}-earlier{number}" for number in count(1))
    return next(name for name in names if not folder.with_name(name).exists())


def _clear(staging: Path) -> None:
    remove_scratch(staging / "checkpoints", "step-*.pt")
    (staging / "metrics.jsonl").unlink(missing_ok=True)


def _train_on_other_rank(training: Training, folder: Path) -> Record:
    """Trains in a process of rank above 0, which writes nothing."""
    staging = parallel.broadcast_text(None)
    if staging:
        training.run(Path(staging), SILENT)
        parallel.broadcast_text(None)
    if not folder.exists():
        raise WorkspaceError(f"{folder} was not made: the first process failed, see its message")
    return read_record(folder)
