"""Verification of pairs: are two images, or clips, of one person?"""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


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
