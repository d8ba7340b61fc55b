from dataclasses import dataclass
from pathlib import Path

from reappear.core import InputError
from reappear.store import CropStore


@dataclass(frozen=True)
class Workspace:
    """One folder with everything that came of some footage.

        crops/                 shard-00000.tar ...  crops.parquet  tracklets.parquet  videos.parquet
        embeddings/NAME/       vectors.npy  meta.json
        identities/NAME/       identities.parquet  tracklets.parquet  links.parquet  moves.parquet  refused.parquet
                               report.json
        models/NAME/           model.safetensors  config.json  README.md  metrics.jsonl
        evaluations/NAME/      scores.json  ranking.npz
        review.jsonl           what people decided; written by `reappear review`, read by correlate
        report.html  report.json

    Every folder is made by one step and holds its `record.json`.
    """

    root: Path

    @property
    def crops(self) -> Path:
        """What ingest wrote."""
        return self.root / "crops"

    def embeddings(self, name: str) -> Path:
        """What embed wrote."""
        return self.root / "embeddings" / name

    def identities(self, name: str) -> Path:
        """What correlate wrote."""
        return self.root / "identities" / name

    def model(self, name: str) -> Path:
        """What pretrain wrote."""
        return self.root / "models" / name

    def evaluation(self, name: str) -> Path:
        """What evaluate wrote."""
        return self.root / "evaluations" / name

    @property
    def review(self) -> Path:
        """What people decided about the crops."""
        return self.root / "review.jsonl"

    def open_crops(self) -> CropStore:
        """The crops.

        Raises:
            InputError: Nothing was ingested here yet.
        """
        if not (self.crops / "record.json").exists():
            raise InputError(f"{self.root} holds no crops yet; run `reappear ingest VIDEOS --out {self.root}` first")
        return CropStore(self.crops)
