"""The weights of the highest validation score."""

from typing import Any

from torch import Tensor

from reappear.models.embedder import Embedder


class BestModel:
    """Keeps the weights of an embedder, on the CPU, where its score was highest; of equal scores the first.

    Args:
        embedder: Follows the training.

    Attributes:
        step: Steps done then; 0 before the first score.
        score: The highest.
        state: Tensors of backbone and neck; empty before the first score.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._modules = {"backbone": embedder.backbone, "neck": embedder.neck}
        self.step, self.score = 0, float("-inf")
        self.state: dict[str, dict[str, Tensor]] = {}

    def offer(self, step: int, score: float) -> None:
        """Keeps the present weights if their score is the highest."""
        if score > self.score:
            self.step, self.score = step, score
            self.state = {
                part: {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
                for part, module in self._modules.items()
            }

    def apply(self) -> None:
        """Sets the weights that are kept."""
        for part, state in self.state.items():
            self._modules[part].load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"step": self.step, "score": self.score, "state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.step, self.score, self.state = int(state["step"]), float(state["score"]), state["state"]
