import re
from dataclasses import dataclass
from pathlib import Path

from reappear.core import Decision, InputError, SettingsError
from reappear.core.files import check_name, require_text
from reappear.data import OWN_LABELS
from reappear.store import CropStore, FileHashes, append_decision, disk_errors, read_decisions

from .record import Record, read_record, require_made_of


@dataclass(frozen=True)
class Workspace:
    """A folder with all results for a set of videos.

        parts/KEY/             crops.tar  crops.parquet  boxes.parquet  poster.jpg  summary.json     (of one video)
        crops/                 crops.parquet  tracklets.parquet  videos.parquet  earlier.parquet; shard-00000.tar ... of
                               images that were imported
        embeddings/NAME/       vectors.npy  meta.json
        identities/NAME/       identities.parquet  tracklets.parquet  links.parquet  moves.parquet  refused.parquet
                               report.json
        models/NAME/           model.safetensors  config.json  README.md  metrics.jsonl
        vectors/NAME/          vectors.npy  meta.json      (of sets that are evaluated)
        evaluations/NAME/      scores.json  ranking.npz
        review.jsonl           review decisions; written by `reappear review`, read by correlate
        evaluation.html  evaluation.json
        report.html  report.json
        hashes.sqlite          hashes of inputs, so that unchanged files are not read again; may be removed at any time

    Every folder is written by one step and has its `record.json`. Names given by `run` are `round0`, `round1`, ...,
    and with three decisions in the review `round0-review3`, ....
    """

    root: Path

    def __post_init__(self) -> None:
        require_text(self.root)

    def make(self) -> None:
        """Creates the folder if missing, readable by its owner only, because it shows people.

        Raises:
            InputError: Another kind of file exists there.
            SettingsError: Its name marks unfinished work.
            StorageError: Writing failed.
        """
        if self.root.name.endswith((".partial", ".tmp")):
            raise SettingsError(f"{self.root}: names in .partial or .tmp mark unfinished work; choose another name")
        with disk_errors(self.root):
            try:
                self.root.parent.mkdir(parents=True, exist_ok=True)
                self.root.mkdir(mode=0o700, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise InputError(
                    f"{self.root} cannot be created: {error.filename} is not a folder; give another"
                ) from error

    @property
    def parts(self) -> Path:
        """The folder with a folder for each video."""
        return self.root / "parts"

    @property
    def crops(self) -> Path:
        """The folder of crops."""
        return self.root / "crops"

    def embeddings(self, name: str) -> Path:
        """A folder of embeddings."""
        return self._result("embeddings", name)

    def identities(self, name: str) -> Path:
        """A folder of identities.

        Raises:
            SettingsError: It is no name, or that of labels which every workspace has.
        """
        if name in OWN_LABELS:
            raise SettingsError(f"name in identities/: {name!r} means labels that every workspace has; choose another")
        return self._result("identities", name)

    def model(self, name: str) -> Path:
        """A folder of a model."""
        return self._result("models", name)

    def evaluation(self, name: str) -> Path:
        """A folder of an evaluation."""
        return self._result("evaluations", name)

    def vectors(self, name: str) -> Path:
        """A folder of cached embeddings of evaluated sets."""
        return self._result("vectors", name)

    def _result(self, folder: str, name: str) -> Path:
        return self.root / folder / check_name(name, f"name in {folder}/")

    @property
    def hashes(self) -> FileHashes:
        """Hashes of files, cached for unchanged files."""
        return FileHashes(self.root / "hashes.sqlite")

    @property
    def review(self) -> Path:
        """The log of review decisions."""
        return self.root / "review.jsonl"

    def decisions(self, log: Path) -> list[Decision]:
        """Review decisions in a log, in present numbers; without those on videos that are not there now.

        Raises:
            InputError: The log is missing, a line is invalid, or it refers to crops that never lay here.
        """
        store = self.open_crops()
        return read_decisions(log, footage=read_record(self.crops).fingerprint, renumber=store.renumbering)

    def add_decision(self, decision: Decision) -> Decision:
        """Appends a decision on the present crops to the log; returns it with its line."""
        store = self.open_crops()
        footage = read_record(self.crops).fingerprint
        return append_decision(self.review, decision, footage=footage, renumber=store.renumbering)

    def finished_identities(self, name: str) -> Path:
        """The identities of this name.

        Raises:
            InputError: There are no such identities.
            WorkspaceError: They belong to other crops than those of the workspace.
        """
        require_made_of(self.existing_identities(name), crops=self.crops)
        return self.identities(name)

    def existing_identities(self, name: str) -> Path:
        """The identities of this name, of the present crops or of an earlier state.

        Raises:
            InputError: There are no such identities.
        """
        if not (self.identities(name) / "record.json").exists():
            there = ", ".join(path.name for path in self._finished("identities")) or "none; run `reappear correlate`"
            raise InputError(f"{self.root} has no identities {name!r} (available: {there})")
        return self.identities(name)

    def newest_identities(self) -> str:
        """The name of the newest identities.

        Raises:
            InputError: There are none yet.
        """
        if not self.has_identities():
            raise InputError(f"{self.root} has no identities yet; run `reappear correlate {self.root}`")
        return self._finished("identities")[-1].name

    def has_identities(self) -> bool:
        """Whether there are identities."""
        return bool(self._finished("identities"))

    def newest_embeddings(self) -> str:
        """The name of the newest embeddings of a round, or of all where there is no round.

        Raises:
            InputError: There are none yet.
        """
        there = self._finished("embeddings")
        if not there:
            raise InputError(f"{self.root} has no embeddings yet; run `reappear embed {self.root}`")
        rounds = [path for path in there if re.fullmatch(r"round\d+(-review\d+)?", path.name)]
        return (rounds or there)[-1].name

    def _finished(self, kind: str) -> list[Path]:
        """Finished folders of the present crops in a folder of results, in the order they were finished."""
        records = (self.root / kind).glob("*/record.json")
        done = [path for path in records if not path.parent.name.endswith(".partial")]
        if (self.crops / "record.json").exists() and len(self.open_crops().earlier()["content"]):
            done = [path for path in done if not self.is_of_earlier_crops(read_record(path.parent))]
        return [path.parent for path in sorted(done, key=lambda path: (path.stat().st_mtime_ns, path.parent.name))]

    def is_of_earlier_crops(self, record: Record) -> bool:
        """Whether a result was made of an earlier state of the crops: before videos were added or removed."""
        return record.inputs.get("crops") in self.open_crops().earlier()["content"].tolist()

    def open_crops(self) -> CropStore:
        """The crops.

        Raises:
            InputError: Nothing was ingested here yet.
        """
        if not (self.crops / "record.json").exists():
            raise InputError(f"{self.root} has no crops yet; run `reappear ingest VIDEOS --out {self.root}` first")
        return CropStore(self.crops)
