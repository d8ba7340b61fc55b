"""Cross-entropy over classes with smoothed labels, and over pairs."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def smoothed_cross_entropy(
    logits: Float[Tensor, "n classes"],
    target: Int[Tensor, " n"],
    smoothing: float = 0.0,
    *,
    share: Literal["all", "others"] = "all",
) -> Float[Tensor, ""]:
    """Mean cross-entropy with label smoothing (Szegedy et al. 2016, section 7), in nats.

    Args:
        logits: Of each class.
        target: The class.
        smoothing: Weight that is taken from the target's class, in [0, 1).
        share: Which classes it is shared among: all (Szegedy, TransReID), or all others (FastReID).
    """
    classes = logits.shape[1]
    if share == "others" and classes > 1:
        smoothing = smoothing * classes / (classes - 1)  # of which the target's class gets its part back
    return F.cross_entropy(logits, target, label_smoothing=smoothing)


def verification_loss(
    logits: Float[Tensor, "n m 2"], identity: Int[Tensor, " n"], other_identity: Int[Tensor, " m"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of all pairs, in nats (GRL, public code: binary cross-entropy after a softmax over two).

    Args:
        logits: Of each pair, first for two people, then for one.
        identity: Of the first of each pair.
        other_identity: Of the second.
    """
    same = identity[:, None] == other_identity
    return F.cross_entropy(logits.flatten(0, 1), same.flatten().long())
