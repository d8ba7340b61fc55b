"""The pretrain step: checks its inputs, then trains in one or several processes."""

from pathlib import Path
from typing import TYPE_CHECKING

from reappear.core import SILENT, Progress, WorkspaceError
from reappear.data import OWN_LABELS
from reappear.pipeline.contents import hash_files
from reappear.pipeline.labels import identities_folder
from reappear.pipeline.record import Outcome, Record, read_record, run_step
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace
from reappear.store import remove_scratch

from .labels import labels_of
from .settings import PretrainSettings

if TYPE_CHECKING:
    from .training import Training


def pretrain(
    work: Workspace,
    name: str,
    settings: PretrainSettings,
    *,
    labels: str | None = None,
    resume: str | Path = "auto",
    progress: Progress = SILENT,
) -> Record:
    """Trains a backbone on the crops of a workspace.

    Args:
        work: Has crops, and identities if they are named.
        name: Of the model: `WORK/models/NAME/` with `model.safetensors`, `config.json`, `README.md`, `metrics.jsonl`.
        settings: See `PretrainSettings`.
        labels: Labels for the method `cion`: "instance" (each crop), "tracklet", "given" (the
            labels that a set came with), "true" (the footage's ground truth), or the name of identities that
            `correlate` wrote. Other methods have their own.
        resume: "auto" continues an interrupted training of this name, if its settings are the same. "never" discards
            it. A path is a checkpoint, or a folder of them, of the same training elsewhere, to continue from.
        progress: Progress listener.

    Raises:
        InputError: There are no crops, no such identities, or the network does not take the views' sizes.
        SettingsError: A setting is out of range, or contradicts another.
        TrainingError: The training diverged.
        DeviceError: The device has too little memory. The checkpoints are kept.
    """
    from reappear.methods.setup import choose_device
    from reappear.train import parallel

    from .check import check_pretraining
    from .training import Training

    labels = labels_of(settings.method, labels)
    parallel.torchrun_environment()
    device = choose_device(settings.device)
    crops = work.open_crops()
    crops.require_images()
    inputs: dict[str, Path | str] = {"crops": work.crops, "labels": labels}
    if labels not in OWN_LABELS:
        inputs["identities"] = identities_folder(work, labels)
    if settings.init is not None:
        init = settings.init / "model.safetensors" if settings.init.is_dir() else settings.init
        inputs |= hash_files({"init": init}, work.hashes)
    if settings.validation is not None:
        inputs["validation"] = Validation.hash_folder(settings.validation, work.hashes)
    folder = work.model(name)
    resume_from = Path(resume) if resume not in ("auto", "never") else None
    training = Training(work, crops, settings, labels, device, name, resume_from)
    with parallel.process_group(device) as (rank, world):
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
                check_pretraining(settings)
            record = run_step(
                folder,
                step="pretrain",
                settings=settings,
                inputs=inputs,
                work=train_in,
                clear=_clear if resume == "never" else None,
                progress=progress,
            )
        except BaseException:
            if not begun:  # in the middle of a training they wait for another message, and torchrun ends them
                release_ranks()
            raise
        release_ranks()
        return record


def _clear(staging: Path) -> None:
    remove_scratch(staging / "checkpoints", "step-*.pt")
    (staging / "metrics.jsonl").unlink(missing_ok=True)


def _train_on_other_rank(training: "Training", folder: Path) -> Record:
    """Trains in a process of rank above 0, which writes nothing."""
    from reappear.train import parallel

    staging = parallel.broadcast_text(None)
    if staging:
        training.run(Path(staging), SILENT)
        parallel.broadcast_text(None)
    if not folder.exists():
        raise WorkspaceError(f"{folder} was not made: the first process failed, see its message")
    return read_record(folder)
