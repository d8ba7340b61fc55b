from pathlib import Path
from typing import Literal

from reappear.core import settings
from reappear.store import WEIGHTS, WeightsCache
from reappear.video.decode import Footage

from .detector import Detector
from .motion import MotionSettings
from .yolox import YoloxSettings

SUGGESTED = "yolox_tiny"  # what to download


@settings
class AutoSettings:
    """YOLOX where its weights are on this machine (`reappear weights list`), else motion."""

    kind: Literal["auto"] = "auto"

    def choose(self) -> MotionSettings | YoloxSettings:
        """The detector, by the weights that are here; the first of the list counts."""
        cache = WeightsCache()
        for entry in WEIGHTS.values():
            if entry.purpose == "detector" and cache.get(entry.name) is not None:
                return YoloxSettings(weights=Path(entry.name))
        return MotionSettings()

    def files(self, video: Path) -> dict[str, Path]:
        """What the result depends on besides the video."""
        return self.choose().files(video)

    def build(self, footage: Footage) -> Detector:
        """A detector for one video."""
        return self.choose().build(footage)
